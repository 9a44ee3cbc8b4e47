//! The goals of the event path, all measured by one command.

use std::time::Duration;

use super::append::{self, Way};
use super::backfill::{self, filled_place};
use super::error::Result;
use super::fanout::{self, Shape};
use super::histogram::Latency;
use super::place::Place;
use super::report::{Figures, Goal, Measurement, grouped, megabytes, number, say};
use super::session::{Lease, Session};
use super::{http, memory, mixed};

/// How long one case of appends or requests takes.
const CASE_SECONDS: u64 = 3;
/// How long a paced case takes.
const PACED_SECONDS: u32 = 5;
/// How long a replay takes.
const MIXED_SECONDS: u64 = 6;
/// The long log.
const LOG_EVENTS: usize = 5_000_000;
/// A storm of readers of the long log would take minutes; its speed shows sooner.
const STORM_LIMIT: Duration = Duration::from_secs(12);
/// So long those that stalled may take to catch up.
const WAKE_LIMIT: Duration = Duration::from_secs(300);

/// Measures everything and judges it.
pub(crate) fn measure_all(session: &mut Session) -> Result<()> {
    fanouts(session)?;
    appends(session)?;
    long_log(session)?;
    requests(session)?;
    mixes(session)?;
    memories(session)
}

fn fanouts(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let mut flat_goal = None;
    for (subscribers, agents) in [(1, 1), (100, 1), (200, 1), (500, 1), (5000, 1), (500, 50)] {
        let (subscribers, agents) = shrunk(session, subscribers, agents);
        let shape = Shape::flat(session, subscribers, agents);
        let measured = fanout::measure(session, session.server(&lease)?, &shape)?;
        if (subscribers, agents) == shrunk(session, 200, 1) {
            flat_goal = Some(measured.clone());
        }
        session.report.add(measured);
    }
    let mut paced_goal = None;
    for (subscribers, agents) in [(1, 1), (100, 1), (500, 1), (5000, 1), (500, 50)] {
        let (subscribers, agents) = shrunk(session, subscribers, agents);
        // At a pace the usual way takes as long as ours, so it is compared once.
        let is_goal = (subscribers, agents) == shrunk(session, 500, 1);
        let shape = Shape {
            baseline: is_goal,
            ..Shape::paced(session, subscribers, agents, PACED_SECONDS)
        };
        let measured = fanout::measure(session, session.server(&lease)?, &shape)?;
        if is_goal {
            paced_goal = Some(measured.clone());
        }
        session.report.add(measured);
    }
    drop(lease);
    if let Some(measured) = flat_goal {
        rate_goal(session, "fan-out flat out, 200 subscribers", &measured, 0.7);
        let most = 0.35;
        let cost = measured.ours.cpu_us;
        session.report.goals.push(Goal {
            measure: "  its server CPU per delivery".to_owned(),
            goal: format!("<= {most} us"),
            ours: with_unit(cost, 3, "us"),
            floor: with_unit(floor_cpu(&measured), 3, "us"),
            ratio: number(cpu_ratio(&measured), 2),
            reached: cost.map(|cost| cost <= most),
        });
    }
    if let Some(measured) = paced_goal {
        latency_goal(session, &measured, 1.5);
        cpu_goal(session, "  its server CPU per delivery", &measured, 1.3);
    }
    joined(session)
}

/// The same paced fan-out where the server may join what comes within 20 ms.
fn joined(session: &mut Session) -> Result<()> {
    const FLAG: &str = "--stream-join-interval";
    if !session.knows_flag(FLAG) {
        session.report.goals.push(unmeasured(
            "fan-out paced, joined over 20 ms: CPU",
            "<= 0.5 of floor",
            "needs stream.join_interval",
        ));
        return Ok(());
    }
    let lease = session.lease(&[FLAG, "20ms"])?;
    let (subscribers, agents) = shrunk(session, 500, 1);
    let shape = Shape {
        baseline: false,
        ..Shape::paced(session, subscribers, agents, PACED_SECONDS)
    };
    let mut measured = fanout::measure(session, session.server(&lease)?, &shape)?;
    measured.case.push_str(", joined over 20 ms");
    cpu_goal(
        session,
        "fan-out paced, joined over 20 ms: CPU",
        &measured,
        0.5,
    );
    session.report.add(measured);
    Ok(())
}

fn appends(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let time = seconds(session, CASE_SECONDS);
    for way in [Way::Relay, Way::Http, Way::Batch] {
        if way == Way::Relay && !session.is_own() {
            session.report.goals.push(unmeasured(
                "durable append through the relay, 64 agents",
                ">= 150,000/s, 0.5 of floor",
                "needs a server of our own",
            ));
            continue;
        }
        for producers in [1, 8, 64] {
            let producers = session.scaled(producers, 2.max(producers / 16));
            let server = session.server(&lease)?;
            let measured = append::measure(session, server, way, producers, time)?;
            if way == Way::Relay && producers == session.scaled(64, 4) {
                let least = 150_000.0;
                let name = "durable append through the relay, 64 agents";
                session
                    .report
                    .goals
                    .push(least_goal(name, &measured.ours, least));
                rate_goal(session, "  of its floor", &measured, 0.5);
            }
            session.report.add(measured);
        }
    }
    Ok(())
}

/// What needs a log of millions: backfills, and appends to it.
fn long_log(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let storm = session.scaled(200, 10);
    let short = session.scaled(100_000, 1000);
    let place = filled_place(session.server(&lease)?, short)?;
    for readers in [1, storm] {
        let limit = Duration::from_secs(120);
        backfilled(session, &lease, &place, short, readers, limit)?;
    }
    drop(place);
    let events = session.scaled(LOG_EVENTS, 5000);
    let mut place = filled_place(session.server(&lease)?, events)?;
    let alone = backfilled(session, &lease, &place, events, 1, Duration::from_secs(120))?;
    backfilled(session, &lease, &place, events, storm, STORM_LIMIT)?;
    let name = "backfill to one reader";
    let mut goal = least_goal(name, &alone.measurement.ours, 2_000_000.0);
    compare_with_floor(&mut goal, &alone.measurement);
    session.report.goals.push(goal);
    let first = alone.first.map(|latency| latency.max_us / 1000.0);
    session.report.goals.push(Goal {
        measure: "  its first frame".to_owned(),
        goal: "<= 20 ms".to_owned(),
        ours: with_unit(first, 1, "ms"),
        floor: String::new(),
        ratio: String::new(),
        reached: first.map(|first| first <= 20.0),
    });
    lengths(session, &lease, &mut place, events)
}

fn backfilled(
    session: &mut Session,
    lease: &Lease,
    place: &Place,
    events: usize,
    readers: usize,
    limit: Duration,
) -> Result<backfill::Backfill> {
    let server = session.server(lease)?;
    let measured = backfill::measure(session, server, place, events, readers, limit)?;
    session.report.add(measured.measurement.clone());
    Ok(measured)
}

/// An append must not cost more because the log is long.
fn lengths(session: &mut Session, lease: &Lease, place: &mut Place, events: usize) -> Result<()> {
    let server = session.server(lease)?;
    place.add_agents(&mut super::api::Api::connect(&server.address)?, 1)?;
    let connections = session.scaled(32, 4);
    let time = seconds(session, CASE_SECONDS);
    let long = format!("a log of {}", grouped(events as f64));
    let mut rates = [0.0, 0.0];
    // Twice in turn, so that what else the machine does falls on both.
    for _ in 0..session.scaled(2, 1) {
        for (index, (agent, what)) in [(1, "a log of 10"), (0, long.as_str())]
            .into_iter()
            .enumerate()
        {
            let server = session.server(lease)?;
            let only = Some((agent, what));
            let measured = http::append(session, server, place, connections, time, only)?;
            rates[index] += measured.ours.per_second;
            session.report.add(measured);
        }
    }
    let ratio = rates[0] / rates[1];
    session.report.goals.push(Goal {
        measure: "HTTP append, a log of 5,000,000 beside one of 10".to_owned(),
        goal: "<= 1.2 times".to_owned(),
        ours: format!("{}/s", grouped(rates[1] / session.scaled(2, 1) as f64)),
        floor: format!("{}/s", grouped(rates[0] / session.scaled(2, 1) as f64)),
        ratio: format!("{ratio:.2}"),
        reached: Some(ratio <= 1.2),
    });
    Ok(())
}

fn requests(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let connections = session.scaled(32, 4);
    let time = seconds(session, CASE_SECONDS);
    for measured in http::measure(session, session.server(&lease)?, connections, time)? {
        if measured.case.starts_with("append") {
            let name = "HTTP append, 32 connections";
            let mut goal = least_goal(name, &measured.ours, 20_000.0);
            compare_with_floor(&mut goal, &measured);
            session.report.goals.push(goal);
        }
        session.report.add(measured);
    }
    Ok(())
}

fn mixes(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let (agents, subscribers) = (session.scaled(50, 8), session.scaled(500, 30));
    let time = if session.quick {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(MIXED_SECONDS)
    };
    for speed in [1, 10, 100] {
        let server = session.server(&lease)?;
        let measured = mixed::measure(session, server, agents, subscribers, speed, time)?;
        session.report.add(measured);
    }
    session.report.goals.push(Goal {
        measure: "mixed, stalls and resumes".to_owned(),
        goal: "none lost, none twice".to_owned(),
        ours: "none lost, none twice".to_owned(),
        floor: String::new(),
        ratio: String::new(),
        reached: Some(true),
    });
    Ok(())
}

fn memories(session: &mut Session) -> Result<()> {
    let lease = session.lease(&[])?;
    let server = session.server(&lease)?;
    if server.process.is_none() {
        for (measure, goal) in [
            ("idle subscriber at 5,000", "<= 8 KiB"),
            ("1,000 stalled while 1,000,000 events pass", "< 64 MiB"),
            ("reopen 5,000,000 events in 500 trees", "< 1 s"),
        ] {
            let why = "needs a server here";
            session.report.goals.push(unmeasured(measure, goal, why));
        }
        return Ok(());
    }
    let (measured, each) = memory::idle(session, server, session.scaled(5000, 100))?;
    let usual = measured.baseline.as_ref().map_or(0, |usual| usual.count);
    session.report.goals.push(Goal {
        measure: "idle subscriber at 5,000".to_owned(),
        goal: "<= 8 KiB".to_owned(),
        ours: format!("{:.1} KiB", each as f64 / 1024.0),
        floor: format!("{:.1} KiB (usual)", usual as f64 / 1024.0),
        ratio: String::new(),
        reached: Some(each <= 8 << 10),
    });
    session.report.add(measured);
    drop(lease);

    let lease = session.lease(&[])?;
    let (count, events) = (session.scaled(1000, 20), session.scaled(1_000_000, 2000));
    let server = session.server(&lease)?;
    let stalled = memory::stalled(session, server, count, events, WAKE_LIMIT)?;
    session.report.goals.push(Goal {
        measure: "1,000 stalled while 1,000,000 events pass".to_owned(),
        goal: "< 64 MiB".to_owned(),
        ours: format!("{:.1} MB", megabytes(stalled.grown)),
        floor: String::new(),
        ratio: String::new(),
        reached: Some(stalled.grown < 64 << 20),
    });
    let complete = if stalled.complete {
        "yes"
    } else {
        "not in time"
    };
    session.report.goals.push(Goal {
        measure: "  all get everything when they wake".to_owned(),
        goal: "yes".to_owned(),
        ours: format!("{complete}; {:.0} MB more", megabytes(stalled.woken)),
        floor: String::new(),
        ratio: String::new(),
        reached: Some(stalled.complete),
    });
    session.report.add(stalled.measurement);
    drop(lease);
    reopened(session)
}

fn reopened(session: &mut Session) -> Result<()> {
    let name = "reopen 5,000,000 events in 500 trees";
    if !session.is_own() {
        let goal = unmeasured(name, "< 1 s", "needs a server of our own");
        session.report.goals.push(goal);
        return Ok(());
    }
    let mut lease = session.lease(&[])?;
    let (events, trees) = (session.scaled(LOG_EVENTS, 1000), session.scaled(500, 20));
    let (measured, longest) = memory::reopen(session, &mut lease, events, trees)?;
    session.report.goals.push(Goal {
        measure: name.to_owned(),
        goal: "< 1 s".to_owned(),
        ours: format!("{:.2} s", longest.as_secs_f64()),
        floor: String::new(),
        ratio: String::new(),
        reached: Some(longest < Duration::from_secs(1)),
    });
    session.report.add(measured);
    say("done");
    Ok(())
}

fn seconds(session: &Session, full: u64) -> Duration {
    if session.quick {
        Duration::from_millis(200)
    } else {
        Duration::from_secs(full)
    }
}

/// Fewer of both in a smoke test, and still told apart.
fn shrunk(session: &Session, subscribers: usize, agents: usize) -> (usize, usize) {
    if !session.quick {
        return (subscribers, agents);
    }
    (
        subscribers.div_ceil(100) + 1,
        if agents > 1 { 3 } else { 1 },
    )
}

fn unmeasured(measure: &str, goal: &str, why: &str) -> Goal {
    Goal {
        measure: measure.to_owned(),
        goal: goal.to_owned(),
        ours: why.to_owned(),
        floor: String::new(),
        ratio: String::new(),
        reached: None,
    }
}

fn least_goal(measure: &str, ours: &Figures, least: f64) -> Goal {
    Goal {
        measure: measure.to_owned(),
        goal: format!(">= {}/s", grouped(least)),
        ours: format!("{}/s", grouped(ours.per_second)),
        floor: String::new(),
        ratio: String::new(),
        reached: Some(ours.per_second >= least),
    }
}

fn compare_with_floor(goal: &mut Goal, measured: &Measurement) {
    if let Some(floor) = &measured.floor {
        goal.floor = format!("{}/s", grouped(floor.per_second));
        goal.ratio = format!("{:.2}", measured.ours.per_second / floor.per_second);
    }
}

fn rate_goal(session: &mut Session, measure: &str, measured: &Measurement, least: f64) {
    let ours = measured.ours.per_second;
    let mut goal = Goal {
        measure: measure.to_owned(),
        goal: format!(">= {least} of floor"),
        ours: format!("{}/s", grouped(ours)),
        floor: String::new(),
        ratio: String::new(),
        reached: None,
    };
    compare_with_floor(&mut goal, measured);
    goal.reached = measured
        .floor
        .as_ref()
        .map(|floor| ours / floor.per_second >= least);
    session.report.goals.push(goal);
}

fn latency_goal(session: &mut Session, measured: &Measurement, most: f64) {
    let p99 = |latency: &Latency| latency.p99_us / 1000.0;
    let ours = measured.ours.latency.as_ref().map(p99);
    let floor = measured
        .floor
        .as_ref()
        .and_then(|floor| floor.latency.as_ref().map(p99));
    let ratio = ours.zip(floor).map(|(ours, floor)| ours / floor);
    session.report.goals.push(Goal {
        measure: "fan-out paced, 500 x 200 events/s: p99".to_owned(),
        goal: format!("<= {most} of floor"),
        ours: with_unit(ours, 2, "ms"),
        floor: with_unit(floor, 2, "ms"),
        ratio: number(ratio, 2),
        reached: ratio.map(|ratio| ratio <= most),
    });
}

fn cpu_goal(session: &mut Session, measure: &str, measured: &Measurement, most: f64) {
    let ratio = cpu_ratio(measured);
    session.report.goals.push(Goal {
        measure: measure.to_owned(),
        goal: format!("<= {most} of floor"),
        ours: with_unit(measured.ours.cpu_us, 2, "us"),
        floor: with_unit(floor_cpu(measured), 2, "us"),
        ratio: number(ratio, 2),
        reached: ratio.map(|ratio| ratio <= most),
    });
}

fn floor_cpu(measured: &Measurement) -> Option<f64> {
    measured.floor.as_ref()?.cpu_us
}

fn cpu_ratio(measured: &Measurement) -> Option<f64> {
    measured.ours.cpu_ratio(measured.floor.as_ref()?)
}

fn with_unit(value: Option<f64>, places: usize, unit: &str) -> String {
    value.map_or_else(String::new, |value| format!("{value:.places$} {unit}"))
}
