//! One agent's events to many subscribers, flat out and paced, beside the floor and the usual way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::crowd::{Crowd, Progress, Stamps};
use super::error::Result;
use super::feed::{self, Feed, FloorFeed};
use super::floor::Floor;
use super::place::Place;
use super::process::Process;
use super::recording::{self, Recorded};
use super::report::{Figures, Measurement, say};
use super::server::Server;
use super::session::Session;
use super::system::{nanos, need_files};

/// Frames that the floor writes by one call when it goes flat out.
const FLOOR_TOGETHER: usize = 64;
/// Bytes that may be on their way to all subscribers together, so that the system's buffers and
/// the server's tail hold them.
const UNDER_WAY_BYTES: usize = 200 << 20;
/// The average size of a recorded event's frame.
const FRAME_BYTES: usize = 440;
/// How often the feeder looks whether the subscribers keep up.
const PAUSE: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(120);
/// Flat out, the usual way delivers this part of the events: it is many times as slow, and its speed
/// shows as well.
const BASELINE_PART: usize = 4;

/// What is fanned out to whom.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) subscribers: usize,
    pub(crate) agents: usize,
    /// Events per second of all agents together; `None` for flat out.
    pub(crate) rate: Option<u32>,
    /// Events of all agents together.
    pub(crate) events: usize,
    /// Flat out, the feeder is at most so many events of an agent ahead of the average subscriber;
    /// zero for no bound.
    pub(crate) lead: usize,
    pub(crate) floor: bool,
    pub(crate) baseline: bool,
}

impl Shape {
    /// As many events as show something, for so many subscribers.
    pub(crate) fn flat(session: &Session, subscribers: usize, agents: usize) -> Self {
        let wanted =
            (8_000_000 / subscribers).clamp(2_000, 60_000) * if agents > 1 { 10 } else { 1 };
        Self {
            subscribers,
            agents,
            rate: None,
            events: session.scaled(wanted, 200).max(agents),
            lead: (UNDER_WAY_BYTES / FRAME_BYTES / subscribers).clamp(128, 1024),
            floor: true,
            baseline: true,
        }
    }

    /// For so many seconds at a rate that one machine can write.
    pub(crate) fn paced(
        session: &Session,
        subscribers: usize,
        agents: usize,
        seconds: u32,
    ) -> Self {
        const DELIVERIES_PER_SECOND: usize = 100_000;
        let wanted = if agents > 1 { 2_000 } else { 200 };
        let possible = DELIVERIES_PER_SECOND * agents / subscribers;
        let rate = u32::try_from(possible).map_or(wanted, |possible| possible.min(wanted));
        let events = rate * seconds;
        Self {
            rate: Some(rate),
            events: session.scaled(events as usize, 50).max(agents),
            ..Self::flat(session, subscribers, agents)
        }
    }

    /// As much as is needed to see how the usual way does, which is slow: flat out, a part.
    fn shortened(&self) -> Self {
        let part = if self.rate.is_some() {
            1
        } else {
            BASELINE_PART
        };
        Self {
            events: (self.events / part).max(self.agents),
            ..self.clone()
        }
    }

    fn name(&self) -> String {
        let Self {
            subscribers,
            agents,
            ..
        } = self;
        let whom = match agents {
            1 => format!("{subscribers} of one agent"),
            _ => format!("{subscribers} over {agents} agents"),
        };
        match self.rate {
            Some(rate) => format!("{whom}, {rate} events/s"),
            None => format!("{whom}, flat out"),
        }
    }

    /// Every event reaches each subscriber of its agent, of which there are as many for each.
    fn deliveries(&self) -> u64 {
        let by_agent = |agent| {
            let events = (self.events + self.agents - 1 - agent) / self.agents;
            let followers = (self.subscribers + self.agents - 1 - agent) / self.agents;
            (events * followers) as u64
        };
        (0..self.agents).map(by_agent).sum()
    }
}

/// Measures one shape on a server and beside it.
pub(crate) fn measure(session: &Session, server: &Server, shape: &Shape) -> Result<Measurement> {
    need_files(shape.subscribers as u64 + 200)?;
    let recorded = recording::one_agent()?;
    say(&format!("fanout {} ...", shape.name()));
    let place = Place::new(server, shape.agents)?;
    let (mut feed, way) = feed::of_server(server, &place)?;
    let connect = |crowd: &mut Crowd, index: usize| {
        let agent = index % shape.agents;
        crowd.subscribe(
            &server.address,
            &place.socket(),
            (agent, &place.agents[agent]),
            None,
        )
    };
    let ours = run(
        "gastownd",
        shape,
        &recorded,
        server.process,
        feed.as_mut(),
        connect,
    )?;
    drop(place);

    let floor = if shape.floor {
        let together = if shape.rate.is_some() {
            1
        } else {
            FLOOR_TOGETHER
        };
        let floor = Floor::start(&[
            "plain-sockets".to_owned(),
            shape.subscribers.to_string(),
            shape.agents.to_string(),
            together.to_string(),
        ])?;
        let mut feed = FloorFeed::new(&floor, shape.agents)?;
        let connect =
            |crowd: &mut Crowd, index: usize| crowd.connect(floor.socket, index % shape.agents);
        let process = Some(floor.process());
        Some(run("floor", shape, &recorded, process, &mut feed, connect)?)
    } else {
        None
    };
    let baseline = if shape.baseline {
        let floor = Floor::start(&[
            "baseline".to_owned(),
            shape.subscribers.to_string(),
            shape.agents.to_string(),
        ])?;
        let mut feed = FloorFeed::new(&floor, shape.agents)?;
        let address = floor.address()?;
        let connect =
            |crowd: &mut Crowd, index: usize| crowd.connect_web(&address, index % shape.agents);
        let process = Some(floor.process());
        Some(run(
            "write_frame",
            &shape.shortened(),
            &recorded,
            process,
            &mut feed,
            connect,
        )?)
    } else {
        None
    };
    let quick = if session.quick { "; a smoke test" } else { "" };
    Ok(Measurement {
        bench: "fanout",
        case: shape.name(),
        unit: "deliveries",
        ours,
        floor,
        baseline,
        notes: vec![format!("{} events, {way}{quick}", shape.events)],
    })
}

/// Connects the crowd, feeds, and measures until everybody has everything.
fn run(
    who: &str,
    shape: &Shape,
    recorded: &[Recorded],
    process: Option<Process>,
    feed: &mut dyn Feed,
    connect: impl Fn(&mut Crowd, usize) -> Result<()>,
) -> Result<Figures> {
    let stamps = Arc::new(Stamps::new(
        shape.agents,
        shape.events.div_ceil(shape.agents),
    ));
    let progress = Arc::new(Progress::default());
    let mut crowd = Crowd::new(Some(stamps.clone()), progress.clone())?;
    for index in 0..shape.subscribers {
        connect(&mut crowd, index)?;
    }
    crowd.until_live(PATIENCE)?;
    if let Some(process) = process {
        process.reset_peak();
    }
    let cpu = process.map(Process::cpu);
    let begin = nanos();
    let fed = std::thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let fed = drive(shape, recorded, feed, &stamps, &progress);
            if fed.is_err() {
                progress.stop.store(true, Ordering::Release);
            }
            fed
        });
        let read = crowd.until_delivered(shape.deliveries(), PATIENCE);
        progress.stop.store(true, Ordering::Release);
        let fed = feeder.join().unwrap_or(Ok(()));
        fed.and(read)
    });
    fed?;
    let took = Duration::from_nanos(nanos() - begin);
    let used = cpu.and_then(|before| Some(process?.cpu().saturating_sub(before)));
    let mut figures = Figures::new(who, shape.deliveries(), took).cpu(used);
    figures.latency = crowd.latency.latency();
    figures.peak_bytes = process.map(Process::peak);
    Ok(figures)
}

fn drive(
    shape: &Shape,
    recorded: &[Recorded],
    feed: &mut dyn Feed,
    stamps: &Stamps,
    progress: &Progress,
) -> Result<()> {
    match shape.rate {
        Some(rate) => drive_paced(shape, rate, recorded, feed, stamps, progress)?,
        None => drive_flat(shape, recorded, feed, stamps, progress)?,
    }
    feed.finish()
}

/// One event at a time, each at its time. The clock of an event begins when it was due, so that a
/// feeder that is held up makes the times longer and not the events fewer.
fn drive_paced(
    shape: &Shape,
    rate: u32,
    recorded: &[Recorded],
    feed: &mut dyn Feed,
    stamps: &Stamps,
    progress: &Progress,
) -> Result<()> {
    let begin = nanos();
    let step = 1_000_000_000 / u64::from(rate.max(1));
    for number in 0..shape.events {
        let due = begin + number as u64 * step;
        while let Some(early) = due.checked_sub(nanos()).filter(|early| *early > 0) {
            std::thread::sleep(Duration::from_nanos(early));
        }
        if progress.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let agent = number % shape.agents;
        stamps.set(agent, (number / shape.agents) as u64, due);
        feed.give(agent, &[&recorded[number % recorded.len()]])?;
    }
    Ok(())
}

fn drive_flat(
    shape: &Shape,
    recorded: &[Recorded],
    feed: &mut dyn Feed,
    stamps: &Stamps,
    progress: &Progress,
) -> Result<()> {
    let of_agent = |agent: usize| (shape.events + shape.agents - 1 - agent) / shape.agents;
    let batch = match shape.lead {
        0 => 500,
        lead => (lead / 2).clamp(1, 500),
    };
    let most = of_agent(0);
    let followers = shape.subscribers as u64;
    for from in (0..most).step_by(batch) {
        // What each subscriber should have, were it `lead` behind.
        let wanted = (from + batch).saturating_sub(shape.lead) as u64 * followers;
        while shape.lead > 0 && progress.delivered.load(Ordering::Acquire) < wanted {
            if progress.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        for agent in 0..shape.agents {
            let to = (from + batch).min(of_agent(agent));
            let events: Vec<&Recorded> = (from..to)
                .map(|place| &recorded[(place * shape.agents + agent) % recorded.len()])
                .collect();
            let now = nanos();
            for place in from..to {
                stamps.set(agent, place as u64, now);
            }
            if !events.is_empty() {
                feed.give(agent, &events)?;
            }
        }
    }
    Ok(())
}
