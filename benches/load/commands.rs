//! From the command line to measurements.

use std::time::Duration;

use super::append::{self, Way};
use super::arguments::{Append, Arguments, Backfill, Command, Fanout, Http, Memory, Mixed};
use super::backfill::{self, filled_place};
use super::error::Result;
use super::fanout::{self, Shape};
use super::session::Session;
use super::{cleanup, floor, goals, http, memory, mixed};

/// Seconds of a paced fan-out.
const PACED_SECONDS: u32 = 10;

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    if let Command::Floor { arguments } = &arguments.command {
        return floor::run(arguments);
    }
    cleanup::at_signals()?;
    let quick = arguments.quick;
    let mut session = match &arguments.url {
        Some(url) => Session::running(url, arguments.token, quick)?,
        None => Session::own(arguments.server, arguments.folder, quick)?,
    };
    let outcome = measure(&mut session, &arguments.command);
    // What was measured before something broke is worth seeing.
    session.report.print()?;
    if let Some(path) = &arguments.json {
        session.report.write_json(path)?;
    }
    outcome
}

fn measure(session: &mut Session, command: &Command) -> Result<()> {
    match command {
        Command::Fanout(options) => fan_out(session, options),
        Command::Append(options) => append(session, options),
        Command::Backfill(options) => backfill(session, options),
        Command::Mixed(options) => mix(session, options),
        Command::Http(options) => request(session, options),
        Command::Memory(options) => remember(session, options),
        Command::All => goals::measure_all(session),
        Command::Floor { arguments } => floor::run(arguments),
    }
}

fn fan_out(session: &mut Session, options: &Fanout) -> Result<()> {
    let lease = session.lease(&[])?;
    let agents = session.scaled(options.agents as usize, 2);
    for subscribers in &options.subscribers {
        let subscribers = session.scaled(*subscribers as usize, 5).max(agents);
        let flat = Shape::flat(session, subscribers, agents);
        let paced = Shape::paced(session, subscribers, agents, PACED_SECONDS);
        let shapes = match options.rate {
            None => vec![flat, paced],
            Some(0) => vec![flat],
            Some(rate) => vec![Shape {
                rate: Some(rate),
                events: session.scaled((rate * PACED_SECONDS) as usize, 50),
                ..paced
            }],
        };
        for mut shape in shapes {
            if let Some(events) = options.events {
                shape.events = session.scaled(events as usize, 200);
            }
            if let Some(lead) = options.lead {
                shape.lead = lead as usize;
            }
            shape.floor = !options.no_floor;
            shape.baseline = !options.no_baseline;
            let measured = fanout::measure(session, session.server(&lease)?, &shape)?;
            session.report.add(measured);
        }
    }
    Ok(())
}

fn append(session: &mut Session, options: &Append) -> Result<()> {
    let lease = session.lease(&[])?;
    let ways = match (options.through.is_empty(), session.is_own()) {
        (false, _) => options.through.clone(),
        (true, true) => vec![Way::Relay, Way::Http, Way::Batch],
        (true, false) => vec![Way::Http, Way::Batch],
    };
    for way in ways {
        for producers in &options.producers {
            let producers = session.scaled(*producers as usize, 4);
            let (server, time) = (session.server(&lease)?, seconds(session, options.seconds));
            let measured = append::measure(session, server, way, producers, time)?;
            session.report.add(measured);
        }
    }
    Ok(())
}

fn backfill(session: &mut Session, options: &Backfill) -> Result<()> {
    for events in &options.events {
        let lease = session.lease(&[])?;
        let events = session.scaled(*events as usize, 1000);
        let place = filled_place(session.server(&lease)?, events)?;
        for readers in &options.readers {
            let (server, readers) = (
                session.server(&lease)?,
                session.scaled(*readers as usize, 5),
            );
            let limit = Duration::from_secs(options.limit);
            let measured = backfill::measure(session, server, &place, events, readers, limit)?;
            session.report.add(measured.measurement);
        }
    }
    Ok(())
}

fn mix(session: &mut Session, options: &Mixed) -> Result<()> {
    let lease = session.lease(&[])?;
    let agents = session.scaled(options.agents as usize, 8);
    let subscribers = session.scaled(options.subscribers as usize, 30);
    let time = Duration::from_secs(if session.quick { 1 } else { options.seconds });
    for speed in &options.speed {
        let server = session.server(&lease)?;
        let measured = mixed::measure(session, server, agents, subscribers, *speed, time)?;
        session.report.add(measured);
    }
    Ok(())
}

fn request(session: &mut Session, options: &Http) -> Result<()> {
    let lease = session.lease(&[])?;
    let connections = session.scaled(options.connections as usize, 4);
    let time = seconds(session, options.seconds);
    for measured in http::measure(session, session.server(&lease)?, connections, time)? {
        session.report.add(measured);
    }
    Ok(())
}

fn remember(session: &mut Session, options: &Memory) -> Result<()> {
    if options.idle > 0 {
        let lease = session.lease(&[])?;
        let count = session.scaled(options.idle as usize, 50);
        let (measured, _) = memory::idle(session, session.server(&lease)?, count)?;
        session.report.add(measured);
    }
    if options.stalled > 0 {
        let lease = session.lease(&[])?;
        let count = session.scaled(options.stalled as usize, 20);
        let events = session.scaled(options.events as usize, 2000);
        let limit = Duration::from_secs(options.limit);
        let server = session.server(&lease)?;
        let stalled = memory::stalled(session, server, count, events, limit)?;
        session.report.add(stalled.measurement);
    }
    if options.reopen_events > 0 && session.is_own() {
        let mut lease = session.lease(&[])?;
        let trees = session.scaled(options.reopen_trees as usize, 10);
        let events = session.scaled(options.reopen_events as usize, 1000);
        let (measured, _) = memory::reopen(session, &mut lease, events, trees)?;
        session.report.add(measured);
    }
    Ok(())
}

fn seconds(session: &Session, full: u64) -> Duration {
    if session.quick {
        Duration::from_millis(200)
    } else {
        Duration::from_secs(full)
    }
}
