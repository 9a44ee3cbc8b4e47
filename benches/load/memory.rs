//! What subscribers cost in memory when they are idle and when they read nothing, and how long the
//! server takes to open a large database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backfill::{self, kept};
use super::crowd::{Crowd, Progress};
use super::error::{Error, Result, fail};
use super::feed::plain_event;
use super::floor::Floor;
use super::place::Place;
use super::process::Process;
use super::recording::{self, Recorded};
use super::report::{Figures, Measurement, grouped, megabytes, say};
use super::server::Server;
use super::session::{Lease, Session};
use super::system::{nanos, need_files};

const PATIENCE: Duration = Duration::from_secs(120);
/// What was set up has this long to come to rest.
const REST: Duration = Duration::from_millis(500);

/// Rounds of writing at most until the database's own memory is taken for settled.
const WARM_ROUNDS_MAX: usize = 8;

/// Bytes of server memory for each of so many idle subscribers.
pub(crate) fn idle(session: &Session, server: &Server, count: usize) -> Result<(Measurement, u64)> {
    let case = format!("{count} idle subscribers");
    say(&format!("memory {case} ..."));
    need_files(count as u64 + 200)?;
    let process = local(server)?;
    let place = Place::new(server, 1)?;
    backfill::fill(server, &place, 0, 100, &recording::one_agent()?)?;
    let connect = |crowd: &mut Crowd| {
        let agent = (0, place.agents[0].as_str());
        crowd.subscribe(&server.address, &place.socket(), agent, Some(0))
    };
    let each = each_of(process, count, connect)?;
    // One that is thrown away shows what the load itself needs to begin.
    let floor = Floor::start(&["baseline".to_owned(), count.to_string(), "1".to_owned()])?;
    let _control = super::feed::FloorFeed::new(&floor, 1)?;
    let address = floor.address()?;
    let usual = each_of(floor.process(), count, |crowd| {
        crowd.connect_web(&address, 0)
    })?;
    let quick = if session.quick { "; a smoke test" } else { "" };
    let measurement = Measurement {
        bench: "memory",
        case,
        unit: "bytes each",
        ours: Figures::amount("gastownd", each, process.peak()),
        floor: None,
        baseline: Some(Figures::amount(
            "write_frame",
            usual,
            floor.process().peak(),
        )),
        notes: vec![format!(
            "{} bytes each; fastwebsockets alone {}{quick}",
            grouped(each as f64),
            grouped(usual as f64)
        )],
    };
    Ok((measurement, each))
}

fn each_of(
    process: Process,
    count: usize,
    connect: impl Fn(&mut Crowd) -> Result<()>,
) -> Result<u64> {
    std::thread::sleep(REST);
    let before = process.resident();
    let mut crowd = Crowd::new(None, Arc::new(Progress::default()))?;
    for _ in 0..count {
        connect(&mut crowd)?;
    }
    crowd.until_live(PATIENCE)?;
    std::thread::sleep(REST);
    let grown = process.resident().saturating_sub(before);
    Ok(grown / count.max(1) as u64)
}

/// What became of subscribers that read nothing.
#[derive(Debug)]
pub(crate) struct Stalled {
    pub(crate) measurement: Measurement,
    /// Bytes that the server grew by at most.
    pub(crate) grown: u64,
    /// Bytes that it grew by at most until they had caught up, from before they stalled.
    pub(crate) woken: u64,
    /// Whether all got everything when they woke.
    pub(crate) complete: bool,
}

/// So many subscribers read nothing while so many events pass, then wake; those that are not done
/// `limit` after that are counted.
pub(crate) fn stalled(
    session: &Session,
    server: &Server,
    count: usize,
    events: usize,
    limit: Duration,
) -> Result<Stalled> {
    let case = format!("{count} stalled, {} events pass", grouped(events as f64));
    say(&format!("memory {case} ..."));
    need_files(count as u64 + 200)?;
    let process = local(server)?;
    let place = Place::new(server, 2)?;
    let small = [small_event()];
    // Events for nobody, until the database has what it takes for them: that is no subscriber's.
    let mut known = process.resident();
    for _ in 0..WARM_ROUNDS_MAX {
        backfill::fill(server, &place, 1, events / 2, &small)?;
        let now = process.resident();
        if now < known + known / 20 {
            break;
        }
        known = known.max(now);
    }
    let progress = Arc::new(Progress::default());
    let mut crowd = Crowd::new(None, progress.clone())?;
    let agent = (0, place.agents[0].as_str());
    for _ in 0..count {
        crowd.subscribe(&server.address, &place.socket(), agent, None)?;
    }
    crowd.until_live(PATIENCE)?;
    // The log and the tail are in use before anybody stalls.
    backfill::fill(server, &place, 0, events / 10, &small)?;
    let first = (events / 10) as u64 * count as u64;
    crowd.until_delivered(first, PATIENCE)?;
    for index in 0..count {
        crowd.stall(index);
    }
    process.reset_peak();
    let before = process.resident();
    let (cpu, begin) = (process.cpu(), nanos());
    backfill::fill(server, &place, 0, events, &small)?;
    let grown = process.peak().saturating_sub(before);
    say(&format!(
        "the server grew by {:.1} MB; they wake ...",
        megabytes(grown)
    ));
    for index in 0..count {
        crowd.listen_to(index)?;
    }
    let all = first + events as u64 * count as u64;
    let end = nanos() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let mut resumed = 0;
    while progress.delivered.load(Ordering::Relaxed) < all && nanos() < end {
        crowd.turn(Duration::from_millis(20))?;
        let closed = |index: &usize| crowd.members()[*index].closed;
        let closed: Vec<usize> = (0..count).filter(closed).collect();
        for index in closed {
            crowd.resume(index, &server.address, &place.socket())?;
            resumed += 1;
        }
    }
    let took = Duration::from_nanos(nanos() - begin);
    let delivered = progress.delivered.load(Ordering::Relaxed) - first;
    let complete = first + delivered == all;
    let used = process.cpu().saturating_sub(cpu);
    let mut ours = Figures::new("gastownd", delivered, took).cpu(Some(used));
    ours.peak_bytes = Some(process.peak());
    let woken = process.peak().saturating_sub(before);
    let quick = if session.quick { "; a smoke test" } else { "" };
    let notes = vec![
        format!(
            "memory grew by {:.1} MB at most while they stalled{quick}",
            megabytes(grown)
        ),
        format!(
            "then {} of {} events came, in order and once, on {resumed} resumed connections",
            grouped(delivered as f64),
            grouped((all - first) as f64)
        ),
        format!(
            "memory was at most {:.1} MB more than before while they caught up",
            megabytes(woken)
        ),
    ];
    Ok(Stalled {
        measurement: Measurement {
            bench: "memory",
            case,
            unit: "deliveries",
            ours,
            floor: None,
            baseline: None,
            notes,
        },
        grown,
        woken,
        complete,
    })
}

/// As small as an event can be: this is about how many there are.
fn small_event() -> Recorded {
    Recorded::new("t", "0")
}

/// How long a server of ours takes until it answers, with so many events in so many logs, after an
/// orderly end and after a kill; the longest of several.
pub(crate) fn reopen(
    session: &Session,
    lease: &mut Lease,
    events: usize,
    trees: usize,
) -> Result<(Measurement, Duration)> {
    let case = format!("reopen {} events in {trees} trees", grouped(events as f64));
    say(&format!("memory {case} ..."));
    let server = lease.own()?;
    let place = Place::new(server, trees)?;
    let of_each = events / trees;
    let logs: Vec<(usize, usize)> = (0..trees).map(|agent| (agent, of_each)).collect();
    backfill::fill_all(server, &place, &logs, &[plain_event(300)])?;
    let mut orderly = Duration::ZERO;
    let mut killed = Duration::ZERO;
    for _ in 0..session.scaled(3, 1) {
        server.stop()?;
        orderly = orderly.max(server.launch()?);
        server.kill()?;
        killed = killed.max(server.launch()?);
    }
    for agent in [0, trees / 2, trees - 1] {
        let found = kept(server, &place, agent, of_each)?;
        if found != of_each {
            return fail(format!("{found} of {of_each} events are left in a log"));
        }
    }
    let longest = orderly.max(killed);
    let process = local(server)?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let measurement = Measurement {
        bench: "memory",
        case,
        unit: "events",
        ours: Figures::amount("gastownd", (of_each * trees) as u64, process.peak()),
        floor: None,
        baseline: None,
        notes: vec![format!(
            "ready after {:.0} ms, after a kill {:.0} ms; {:.0} MB in memory then",
            milliseconds(orderly),
            milliseconds(killed),
            megabytes(process.resident())
        )],
    };
    Ok((measurement, longest))
}

fn local(server: &Server) -> Result<Process> {
    server.process.ok_or_else(|| {
        Error(
            "memory can be measured only of a server on this machine whose process this user may \
             see"
            .to_owned(),
        )
    })
}
