//! Kept events to new subscribers: one alone, and many at once, as after a restart.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::api::Api;
use super::cleanup::Folder;
use super::crowd::{Crowd, Progress};
use super::error::{During, Result};
use super::feed::{BATCH_LEN_MAX, Feed, HttpFeed};
use super::floor::Floor;
use super::frames;
use super::histogram::{Histogram, Latency};
use super::place::Place;
use super::process::Process;
use super::recording::{self, Recorded};
use super::report::{Figures, Measurement, grouped, number, say};
use super::server::Server;
use super::session::Session;
use super::system::{nanos, need_files};

/// Messages under way while a log is filled.
const FILL_IN_FLIGHT: u64 = 16_384;
const PATIENCE: Duration = Duration::from_secs(600);
/// The floor reads no more events than this in all: its speed does not depend on how many.
const FLOOR_EVENTS_MAX: usize = 20_000_000;
/// And its file has no more.
const FLOOR_FILE_EVENTS_MAX: usize = 1_000_000;

/// Appends so many recorded events to an agent's log.
pub(crate) fn fill(
    server: &Server,
    place: &Place,
    agent: usize,
    count: usize,
    recorded: &[Recorded],
) -> Result<()> {
    fill_all(server, place, &[(agent, count)], recorded)
}

/// Appends so many events to each of these agents' logs, in turn.
pub(crate) fn fill_all(
    server: &Server,
    place: &Place,
    logs: &[(usize, usize)],
    recorded: &[Recorded],
) -> Result<()> {
    let total: usize = logs.iter().map(|(_, count)| count).sum();
    if total >= 100_000 {
        say(&format!(
            "filling {} logs with {} events ...",
            logs.len(),
            grouped(total as f64)
        ));
    }
    let Some(container) = &place.container else {
        let mut feed = HttpFeed::new(server, place)?;
        for (agent, count) in logs {
            let events: Vec<&Recorded> = recorded.iter().cycle().take(*count).collect();
            for part in events.chunks(BATCH_LEN_MAX) {
                feed.give(*agent, part)?;
            }
        }
        return Ok(());
    };
    let mut speaker = container.speaker()?;
    for (agent, count) in logs {
        for (number, event) in recorded.iter().cycle().take(*count).enumerate() {
            speaker.push(&place.agents[*agent], &event.content);
            if number % 256 == 255 || number + 1 == *count {
                speaker.flush()?;
                let behind = speaker.last_seq().saturating_sub(FILL_IN_FLIGHT);
                speaker.wait_acked(behind, PATIENCE)?;
            }
        }
    }
    speaker.wait_acked(speaker.last_seq(), PATIENCE)
}

/// What a backfill came to.
#[derive(Debug)]
pub(crate) struct Backfill {
    pub(crate) measurement: Measurement,
    /// From asking to the first event, over all readers.
    pub(crate) first: Option<Latency>,
}

/// Lets `readers` new subscribers read the log of the place's first agent, which holds `events`, at
/// once; gives up waiting after `limit` and counts what came until then.
pub(crate) fn measure(
    session: &Session,
    server: &Server,
    place: &Place,
    events: usize,
    readers: usize,
    limit: Duration,
) -> Result<Backfill> {
    let case = format!("{} events to {readers}", grouped(events as f64));
    say(&format!("backfill {case} ..."));
    need_files(readers as u64 + 200)?;
    let progress = Arc::new(Progress::default());
    let mut crowd = Crowd::new(None, progress.clone())?;
    for _ in 0..readers {
        crowd.open(&server.address, &place.socket(), (0, &place.agents[0]))?;
    }
    if let Some(process) = server.process {
        process.reset_peak();
    }
    let load = Process(std::process::id());
    let load_cpu = load.cpu();
    let (cpu, begin) = (server.process.map(Process::cpu), nanos());
    for reader in 0..readers {
        crowd.ask(reader, Some(0))?;
    }
    let end = begin + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let live = |crowd: &Crowd| {
        crowd
            .members()
            .iter()
            .all(|member| member.live_at.is_some())
    };
    crowd.read_until("the backfill is done", PATIENCE, |crowd| {
        nanos() > end || live(crowd)
    })?;
    let took = Duration::from_nanos(nanos() - begin);
    let used = cpu.and_then(|before| Some(server.process?.cpu().saturating_sub(before)));
    let load_used = load.cpu().saturating_sub(load_cpu);
    let count = progress.delivered.load(Ordering::Relaxed);
    let mut ours = Figures::new("gastownd", count, took).cpu(used);
    ours.peak_bytes = server.process.map(Process::peak);
    let since = |at: fn(&super::crowd::Member) -> Option<u64>| {
        let mut histogram = Histogram::default();
        for member in crowd.members() {
            if let Some(at) = at(member) {
                histogram.record(at.saturating_sub(member.begun));
            }
        }
        histogram.latency()
    };
    let (first, caught_up) = (
        since(|member| member.first_at),
        since(|member| member.live_at),
    );
    ours.latency = first;
    let milliseconds = |latency: Option<Latency>| {
        number(latency.map(|latency| latency.p50_us / 1000.0), 1)
            + " ms, the last "
            + &number(latency.map(|latency| latency.max_us / 1000.0), 1)
            + " ms"
    };
    let mut notes = vec![format!("first event after {}", milliseconds(first))];
    notes.push(if live(&crowd) {
        format!("live after {}", milliseconds(caught_up))
    } else {
        let (share, all) = (count, events as u64 * readers as u64);
        format!(
            "stopped after {} s with {} of {} events",
            limit.as_secs(),
            grouped(share as f64),
            grouped(all as f64)
        )
    });
    notes.push(format!(
        "the readers themselves used {:.2} of a processor, {:.2} us each",
        load_used.as_secs_f64() / took.as_secs_f64(),
        load_used.as_secs_f64() * 1e6 / count.max(1) as f64
    ));
    drop(crowd);
    let floor = floor(session, events, readers)?;
    Ok(Backfill {
        measurement: Measurement {
            bench: "backfill",
            case,
            unit: "events",
            ours,
            floor: Some(floor),
            baseline: None,
            notes,
        },
        first,
    })
}

/// The same frames from a file to as many plain sockets.
fn floor(session: &Session, events: usize, readers: usize) -> Result<Figures> {
    let most = FLOOR_FILE_EVENTS_MAX.min(FLOOR_EVENTS_MAX / readers);
    let events = events.min(session.scaled(most, 1000));
    let folder = Folder::new(None)?;
    let path = folder.path().join("frames");
    write_frames(&path, events)?;
    let floor = Floor::start(&["file-reader".to_owned(), path.display().to_string()])?;
    let progress = Arc::new(Progress::default());
    let mut crowd = Crowd::new(None, progress)?;
    let (cpu, begin) = (floor.process().cpu(), nanos());
    for _ in 0..readers {
        crowd.connect(floor.socket, 0)?;
    }
    let all = events as u64 * readers as u64;
    crowd.until_delivered(all, PATIENCE)?;
    let took = Duration::from_nanos(nanos() - begin);
    let used = floor.process().cpu().saturating_sub(cpu);
    Ok(Figures::new("file", all, took).cpu(Some(used)))
}

fn write_frames(path: &Path, events: usize) -> Result<()> {
    let recorded = recording::one_agent()?;
    let file = File::create(path).during("make the floor's file")?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut frame = Vec::new();
    for (id, event) in (1..=events as u64).zip(recorded.iter().cycle()) {
        frame.clear();
        let agent = "00000000-0000-4000-8000-000000000000";
        frames::push_event(&mut frame, agent, id, &event.content);
        file.write_all(&frame).during("write the floor's file")?;
    }
    file.flush().during("write the floor's file")
}

/// A town whose first agent's log holds so many events.
pub(crate) fn filled_place(server: &Server, events: usize) -> Result<Place> {
    let place = Place::new(server, 1)?;
    fill(server, &place, 0, events, &recording::one_agent()?)?;
    Ok(place)
}

/// The last id of an agent's log, as HTTP tells it.
pub(crate) fn kept(server: &Server, place: &Place, agent: usize, last: usize) -> Result<usize> {
    let mut api = Api::connect(&server.address)?;
    let path = format!(
        "{}/agents/{}/events?after_id={}&limit=1000",
        place.rig,
        place.agents[agent],
        last.saturating_sub(10)
    );
    let events = api.must("GET", &path, &serde_json::Value::Null)?;
    let all = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let last = all.last().and_then(|event| event["id"].as_u64());
    Ok(usize::try_from(last.unwrap_or(0)).unwrap_or(0))
}
