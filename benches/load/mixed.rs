//! A day in a town, faster: many agents replay what eight real ones said, while subscribers stall,
//! drop and resume. Every event is checked, by id and by content.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::crowd::{Crowd, Progress, Stamps};
use super::error::{Result, fail};
use super::feed::{self, Feed};
use super::frames::fingerprint;
use super::place::Place;
use super::process::Process;
use super::recording::{self, Moment};
use super::report::{Figures, Measurement, say};
use super::server::Server;
use super::session::Session;
use super::system::{nanos, need_files};

/// One in so many subscribers stalls now and then, and one in so many drops its connection.
const ONE_IN: usize = 10;
/// How long a stalled one reads nothing.
const STALL_NANOS: u64 = 1_500_000_000;
/// How often somebody stalls, wakes or drops.
const MISCHIEF_NANOS: u64 = 25_000_000;
/// Agents that replay the same recording do so this much apart.
const OFFSET_MS: u64 = 137;
const TURN: Duration = Duration::from_millis(5);
const PATIENCE_NANOS: u64 = 120_000_000_000;

/// One event to be given.
struct Due {
    /// When, in nanoseconds from the beginning.
    at: u64,
    agent: usize,
    /// Which of the recorded moments.
    moment: usize,
}

/// Replays at `speed` times the recorded one for about so long.
pub(crate) fn measure(
    session: &Session,
    server: &Server,
    agents: usize,
    subscribers: usize,
    speed: u64,
    time: Duration,
) -> Result<Measurement> {
    let case = format!("{agents} agents at {speed} x, {subscribers} subscribers");
    say(&format!("mixed {case} ..."));
    need_files(subscribers as u64 + 200)?;
    let moments = recording::eight_agents()?;
    let schedule = schedule(&moments, agents, speed, time);
    let (prints, events) = prints(&moments, &schedule, agents);
    let expected: u64 = (0..subscribers)
        .map(|subscriber| events[subscriber % agents])
        .sum();
    let most = events.iter().copied().max().unwrap_or(0);
    let stamps = Arc::new(Stamps::new(agents, usize::try_from(most).unwrap_or(0)));
    let progress = Arc::new(Progress::default());
    let place = Place::new(server, agents)?;
    let (mut feed, way) = feed::of_server(server, &place)?;
    let mut crowd = Crowd::new(Some(stamps.clone()), progress.clone())?.expecting(prints);
    for index in 0..subscribers {
        let agent = index % agents;
        let agent = (agent, place.agents[agent].as_str());
        crowd.subscribe(&server.address, &place.socket(), agent, None)?;
    }
    crowd.until_live(Duration::from_secs(60))?;
    if let Some(process) = server.process {
        process.reset_peak();
    }
    let (cpu, begin) = (server.process.map(Process::cpu), nanos());
    let mut mischief = Mischief::new(begin);
    let outcome = std::thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let fed = drive(&schedule, &moments, feed.as_mut(), &stamps, &progress);
            if fed.is_err() {
                progress.stop.store(true, Ordering::Release);
            }
            fed.map(|()| nanos() - begin)
        });
        let read = read_all(
            &mut crowd,
            &mut mischief,
            server,
            &place,
            &progress,
            expected,
        );
        progress.stop.store(true, Ordering::Release);
        let fed = feeder.join().unwrap_or_else(|_| fail("the feeder broke"))?;
        read.map(|()| fed)
    });
    let fed = Duration::from_nanos(outcome?);
    let took = Duration::from_nanos(nanos() - begin);
    let received: u64 = crowd.members().iter().map(|member| member.received).sum();
    if received != expected {
        return fail(format!("{received} events came and {expected} were to"));
    }
    let used = cpu.and_then(|before| Some(server.process?.cpu().saturating_sub(before)));
    let mut ours = Figures::new("gastownd", expected, took).cpu(used);
    ours.latency = crowd.latency.latency();
    ours.peak_bytes = server.process.map(Process::peak);
    let wanted = schedule.last().map_or(0, |due| due.at);
    let quick = if session.quick { "; a smoke test" } else { "" };
    Ok(Measurement {
        bench: "mixed",
        case,
        unit: "deliveries",
        ours,
        floor: None,
        baseline: None,
        notes: vec![
            format!(
                "{} events {way}, given in {:.1} s, recorded for {:.1} s{quick}",
                schedule.len(),
                fed.as_secs_f64(),
                Duration::from_nanos(wanted).as_secs_f64()
            ),
            format!(
                "nothing lost, nothing twice: {expected} deliveries checked by id and content, with \
                 {} stalls and {} resumed connections",
                mischief.stalls, mischief.resumes
            ),
        ],
    })
}

/// Who says what when: the recording again and again, until the time is full.
fn schedule(moments: &[Moment], agents: usize, speed: u64, time: Duration) -> Vec<Due> {
    let recorded_agents = moments
        .iter()
        .map(|moment| moment.agent + 1)
        .max()
        .unwrap_or(1);
    let length_ms = moments.last().map_or(0, |moment| moment.at_ms) + 100;
    let wanted_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) * speed;
    let mut all = Vec::new();
    for round in 0..=wanted_ms / length_ms {
        for (index, moment) in moments.iter().enumerate() {
            for agent in (moment.agent..agents).step_by(recorded_agents) {
                let offset = (agent / recorded_agents) as u64 * OFFSET_MS;
                let at_ms = round * length_ms + moment.at_ms + offset;
                if at_ms <= wanted_ms {
                    all.push(Due {
                        at: at_ms * 1_000_000 / speed,
                        agent,
                        moment: index,
                    });
                }
            }
        }
    }
    // Stable, so that an agent's events keep their order.
    all.sort_by_key(|due| due.at);
    all
}

/// What each agent's events must carry, in order, and how many there are of each.
fn prints(
    moments: &[Moment],
    schedule: &[Due],
    agents: usize,
) -> (super::crowd::Expected, Vec<u64>) {
    let of_moments: Vec<u64> = moments
        .iter()
        .map(|moment| fingerprint(moment.event.content.as_bytes()))
        .collect();
    let mut prints = vec![Vec::new(); agents];
    for due in schedule {
        prints[due.agent].push(of_moments[due.moment]);
    }
    let counts = prints.iter().map(|prints| prints.len() as u64).collect();
    (Arc::new(prints), counts)
}

fn drive(
    schedule: &[Due],
    moments: &[Moment],
    feed: &mut dyn Feed,
    stamps: &Stamps,
    progress: &Progress,
) -> Result<()> {
    let begin = nanos();
    let mut places = vec![0; schedule.iter().map(|due| due.agent + 1).max().unwrap_or(0)];
    for due in schedule {
        let at = begin + due.at;
        while let Some(early) = at.checked_sub(nanos()).filter(|early| *early > 0) {
            std::thread::sleep(Duration::from_nanos(early));
        }
        if progress.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        stamps.set(due.agent, places[due.agent], at);
        places[due.agent] += 1;
        feed.give(due.agent, &[&moments[due.moment].event])?;
    }
    Ok(())
}

fn read_all(
    crowd: &mut Crowd,
    mischief: &mut Mischief,
    server: &Server,
    place: &Place,
    progress: &Progress,
    expected: u64,
) -> Result<()> {
    while progress.delivered.load(Ordering::Relaxed) < expected {
        if progress.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        if nanos() > mischief.begin + PATIENCE_NANOS {
            let came = progress.delivered.load(Ordering::Relaxed);
            return fail(format!("{came} of {expected} events came, and then none"));
        }
        mischief.make(crowd, server, place)?;
        crowd.turn(TURN)?;
    }
    Ok(())
}

/// Who stalls and who drops.
struct Mischief {
    begin: u64,
    next_at: u64,
    turn: usize,
    /// Who reads nothing, and until when.
    stalled: Vec<(usize, u64)>,
    stalls: usize,
    resumes: usize,
}

impl Mischief {
    fn new(begin: u64) -> Self {
        Self {
            begin,
            next_at: begin,
            turn: 0,
            stalled: Vec::new(),
            stalls: 0,
            resumes: 0,
        }
    }

    fn make(&mut self, crowd: &mut Crowd, server: &Server, place: &Place) -> Result<()> {
        let now = nanos();
        if now < self.next_at {
            return Ok(());
        }
        self.next_at = now + MISCHIEF_NANOS;
        let awake: Vec<usize> = self
            .stalled
            .extract_if(.., |(_, until)| *until < now)
            .map(|(index, _)| index)
            .collect();
        for index in awake {
            crowd.listen_to(index)?;
        }
        let closed: Vec<usize> = (0..crowd.members().len())
            .filter(|index| crowd.members()[*index].closed)
            .collect();
        for index in closed {
            crowd.resume(index, &server.address, &place.socket())?;
            self.resumes += 1;
        }
        let groups = crowd.members().len() / ONE_IN;
        if groups == 0 {
            return Ok(());
        }
        self.turn += 1;
        let first = self.turn / 2 % groups * ONE_IN;
        if self.turn.is_multiple_of(2) {
            if !self.stalled.iter().any(|(index, _)| *index == first) {
                crowd.stall(first);
                self.stalled.push((first, now + STALL_NANOS));
                self.stalls += 1;
            }
        } else {
            crowd.resume(first + 1, &server.address, &place.socket())?;
            self.resumes += 1;
        }
        Ok(())
    }
}
