//! Single HTTP requests, beside a hyper service that does nothing.

use std::time::Duration;

use serde_json::json;

use super::api::{Address, Api};
use super::append::prepare;
use super::error::{Error, Result};
use super::feed::Requests;
use super::floor::Floor;
use super::place::Place;
use super::process::Process;
use super::recording;
use super::report::{Figures, Measurement, say};
use super::requests;
use super::server::Server;
use super::session::Session;

/// GET and POST of a bead, and an append, on so many connections.
pub(crate) fn measure(
    session: &Session,
    server: &Server,
    connections: usize,
    time: Duration,
) -> Result<Vec<Measurement>> {
    let place = Place::new(server, connections)?;
    let mut api = Api::connect(&server.address)?;
    let beads = format!("{}/beads", place.rig);
    let bead = json!({
        "type": "issue",
        "title": "The lamp of the east pier is out",
        "body": "Seen at the evening round; the spare is in the store.",
        "priority": "high",
        "labels": ["harbour"],
    });
    let made = api.must("POST", &beads, &bead)?;
    let bead_id = made["bead_id"]
        .as_str()
        .ok_or_else(|| Error("the server made no bead".to_owned()))?;
    let body = bead.to_string();
    let get = format!("{beads}/{bead_id}");
    let mut measurements = Vec::new();
    for (name, method, path, body) in [
        ("GET bead", "GET", &get, ""),
        ("POST bead", "POST", &beads, body.as_str()),
    ] {
        let make = |address: &Address| vec![vec![address.request(method, path, body)]];
        measurements.push(compare(session, server, name, connections, time, &make)?);
    }
    measurements.push(append(session, server, &place, connections, time, None)?);
    Ok(measurements)
}

/// Appends of single events: each connection to an agent of its own, or all to one agent.
pub(crate) fn append(
    session: &Session,
    server: &Server,
    place: &Place,
    connections: usize,
    time: Duration,
    only: Option<(usize, &str)>,
) -> Result<Measurement> {
    let recorded = recording::one_agent()?;
    let make = |address: &Address| {
        let requests = Requests::new(address, place);
        let agent = |connection: usize| only.map_or(connection, |(agent, _)| agent);
        (0..connections)
            .map(|connection| prepare(&requests, agent(connection), &recorded, 1))
            .collect()
    };
    let name = match only {
        Some((_, what)) => format!("append to {what}"),
        None => "append".to_owned(),
    };
    compare(session, server, &name, connections, time, &make)
}

/// The same requests to the server and to the floor. `make` gives each connection's requests; a
/// single list is everybody's.
fn compare(
    session: &Session,
    server: &Server,
    name: &str,
    connections: usize,
    time: Duration,
    make: &dyn Fn(&Address) -> Vec<Vec<Vec<u8>>>,
) -> Result<Measurement> {
    let case = format!("{name}, {connections} connections");
    say(&format!("http {case} ..."));
    let run = |who: &str, address: &Address, process: Option<Process>| -> Result<Figures> {
        let lists = make(address);
        let mut sent = vec![0usize; connections];
        if let Some(process) = process {
            process.reset_peak();
        }
        let cpu = process.map(Process::cpu);
        let outcome = requests::run(address, connections, time, |connection| {
            let list = &lists[connection % lists.len()];
            sent[connection] += 1;
            list[sent[connection] % list.len()].clone()
        })?;
        let used = cpu.and_then(|before| Some(process?.cpu().saturating_sub(before)));
        let mut figures = Figures::new(who, outcome.count, outcome.took).cpu(used);
        figures.latency = outcome.latency.latency();
        figures.peak_bytes = process.map(Process::peak);
        Ok(figures)
    };
    let ours = run("gastownd", &server.address, server.process)?;
    let floor = Floor::start(&["empty-http".to_owned()])?;
    let floor = run("empty hyper", &floor.address()?, Some(floor.process()))?;
    let notes = session.quick.then(|| "a smoke test".to_owned());
    Ok(Measurement {
        bench: "http",
        case,
        unit: "requests",
        ours,
        floor: Some(floor),
        baseline: None,
        notes: notes.into_iter().collect(),
    })
}
