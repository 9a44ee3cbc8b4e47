//! Durable appends by several producers, beside the disk alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::cleanup::Folder;
use super::error::{Error, Result};
use super::feed::Requests;
use super::floor::disk;
use super::place::Place;
use super::played_container::{IN_FLIGHT_MAX, PlayedContainer};
use super::process::Process;
use super::recording::{self, Recorded};
use super::report::{Figures, Measurement, say};
use super::requests;
use super::server::Server;
use super::session::Session;

/// Messages that one producer has under way over the link.
const IN_FLIGHT: u64 = 64;
/// Messages written to the link by one call.
const PUSH_LEN: u64 = 128;
/// Events in one request of the batch route.
const BATCH_LEN: usize = 100;
/// Different requests that a connection sends in turn.
const REQUESTS: usize = 32;
/// The envelope of an event in its stored frame.
const ENVELOPE_LEN: usize = 107;
const PATIENCE: Duration = Duration::from_secs(30);

/// How events come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Over a container's link, as agents' events do; needs a server of our own.
    Relay,
    /// One event per HTTP request.
    Http,
    /// A hundred events per HTTP request.
    Batch,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Http => "HTTP single",
            Self::Batch => "HTTP batch of 100",
        }
    }
}

/// What one way came to, and which groups of events were under way together.
struct Appends {
    figures: Figures,
    groups: Vec<u64>,
}

/// Measures one way on a server, and then the disk with the same groups.
pub(crate) fn measure(
    session: &Session,
    server: &Server,
    way: Way,
    producers: usize,
    time: Duration,
) -> Result<Measurement> {
    let recorded = recording::one_agent()?;
    let case = format!("{}, {producers} producers", way.name());
    say(&format!("append {case} ..."));
    let place = Place::new(server, producers)?;
    if let Some(process) = server.process {
        process.reset_peak();
    }
    let Appends {
        mut figures,
        groups,
    } = match (way, &place.container) {
        (Way::Relay, Some(container)) => {
            relay(server, &place, container, producers, time, &recorded)?
        }
        (Way::Relay, None) => {
            return Err(Error(
                "the relay needs a server of our own: leave out --url".to_owned(),
            ));
        }
        (Way::Http, _) => http(server, &place, producers, time, &recorded, 1)?,
        (Way::Batch, _) => http(server, &place, producers, time, &recorded, BATCH_LEN)?,
    };
    figures.peak_bytes = server.process.map(Process::peak);
    drop(place);
    let mean = recorded
        .iter()
        .map(|event| event.content.len())
        .sum::<usize>()
        / recorded.len();
    let floor = floor_folder(server)?;
    let floor = disk::append(&floor.0, &groups, mean + ENVELOPE_LEN, time)?;
    let mean_group = groups.iter().sum::<u64>() / groups.len().max(1) as u64;
    let quick = if session.quick { "; a smoke test" } else { "" };
    Ok(Measurement {
        bench: "append",
        case,
        unit: "events",
        ours: figures,
        floor: Some(floor),
        baseline: None,
        notes: vec![format!("groups of {mean_group} events on average{quick}")],
    })
}

/// A folder on the server's disk, if that is ours; a temporary one otherwise.
fn floor_folder(server: &Server) -> Result<(PathBuf, Option<Folder>)> {
    match server.data().map(Path::to_owned) {
        Some(folder) => Ok((folder, None)),
        None => {
            let folder = Folder::new(None)?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

fn relay(
    server: &Server,
    place: &Place,
    container: &PlayedContainer,
    producers: usize,
    time: Duration,
    recorded: &[Recorded],
) -> Result<Appends> {
    let mut speaker = container.speaker()?;
    container.reset();
    let window = (IN_FLIGHT * producers as u64).min(IN_FLIGHT_MAX / 2);
    let cpu = server.process.map(Process::cpu);
    let (begin, first) = (Instant::now(), speaker.last_seq());
    let mut number = 0;
    while begin.elapsed() < time {
        let acked = speaker.acked();
        let room = window - (speaker.last_seq() - acked);
        if room == 0 {
            speaker.wait_acked(acked + 1, PATIENCE)?;
            continue;
        }
        for _ in 0..room.min(PUSH_LEN) {
            let agent = &place.agents[number % producers];
            speaker.push(agent, &recorded[number % recorded.len()].content);
            number += 1;
        }
        speaker.flush()?;
    }
    speaker.wait_acked(speaker.last_seq(), PATIENCE)?;
    let took = begin.elapsed();
    let used = cpu.and_then(|before| Some(server.process?.cpu().saturating_sub(before)));
    let mut figures = Figures::new("gastownd", speaker.last_seq() - first, took).cpu(used);
    let (groups, latency) = container.measured();
    figures.latency = latency.latency();
    Ok(Appends { figures, groups })
}

fn http(
    server: &Server,
    place: &Place,
    producers: usize,
    time: Duration,
    recorded: &[Recorded],
    batch: usize,
) -> Result<Appends> {
    let requests = Requests::new(&server.address, place);
    let prepared: Vec<Vec<Vec<u8>>> = (0..producers)
        .map(|agent| prepare(&requests, agent, recorded, batch))
        .collect();
    let mut sent = vec![0; producers];
    let cpu = server.process.map(Process::cpu);
    let outcome = requests::run(&server.address, producers, time, |connection| {
        let request = &prepared[connection][sent[connection] % REQUESTS];
        sent[connection] += 1;
        request.clone()
    })?;
    let used = cpu.and_then(|before| Some(server.process?.cpu().saturating_sub(before)));
    let count = outcome.count * batch as u64;
    let mut figures = Figures::new("gastownd", count, outcome.took).cpu(used);
    figures.latency = outcome.latency.latency();
    // What the server really put together is not told: the most that it could have.
    let groups = vec![(producers * batch) as u64];
    Ok(Appends { figures, groups })
}

/// The requests that one connection sends in turn.
pub(crate) fn prepare(
    requests: &Requests,
    agent: usize,
    recorded: &[Recorded],
    batch: usize,
) -> Vec<Vec<u8>> {
    let mut events = recorded.iter().cycle().skip(agent * 37);
    let mut next = || {
        if batch == 1 {
            return events.next().map(|event| requests.append(agent, event));
        }
        let events: Vec<_> = events.by_ref().take(batch).collect();
        Some(requests.batch(agent, &events))
    };
    (0..REQUESTS).filter_map(|_| next()).collect()
}
