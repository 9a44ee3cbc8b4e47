//! Eight agents at work in one town: what that costs our own processes, and how fast what they say is
//! seen.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use gastownd::clock::Clock;
use gastownd::model::Timestamp;
use serde_json::json;

use super::process::Process;
use super::support::repository::Repository;
use super::support::server::{Server, processes_of};
use super::{Samples, disk_floor, mebibytes, row};

const AGENTS: usize = 8;

/// Between two words of an agent: as fast as a quick model.
const WORD_MS: u64 = 20;

/// Slings a bead to each agent and watches them from when all speak until the first one stops.
pub(super) async fn at_work(words: usize) {
    let repository = Repository::new();
    let server = Server::start(&[]);
    let town = server
        .town(json!({"agent_server": "rehearsal", "max_polecats_per_rig": AGENTS}))
        .await;
    let rig = server.rig(&town, &repository.origin()).await;
    let mut stream = server.stream(&town).await;
    let body = format!(
        "rehearse: slow {WORD_MS}ms\nrehearse: say {}",
        "word ".repeat(words)
    );
    for number in 0..AGENTS {
        let order = json!({"title": format!("Work {number}"), "body": body});
        let slung = server.post(&format!("{rig}/sling"), order).await;
        let agent = slung["agent"]["id"].as_str().unwrap();
        stream.subscribe(agent, 0).await;
    }

    let mut speaking = BTreeSet::new();
    while speaking.len() < AGENTS {
        let event = stream.event().await.unwrap();
        if event["type"] == "message.part.delta" {
            speaking.insert(event["agentId"].as_str().unwrap().to_owned());
        }
    }
    let container = container_of(server.data.path());
    let cpu = || Process(server.pid()).cpu() + Process(container).cpu();
    let (begin, before) = (Instant::now(), cpu());
    let mut seen = Samples::default();
    loop {
        let event = stream.event().await.unwrap();
        let now = Clock::system().now();
        match event["type"].as_str().unwrap() {
            "message.part.delta" => {
                // The container's stamp has whole milliseconds, so each figure is up to 1 ms too long.
                let made = Timestamp::parse(event["timestamp"].as_str().unwrap()).unwrap();
                seen.push(now.since(made));
            }
            "agent.idle" | "agent.exited" => break,
            _ => {}
        }
    }
    let (took, used) = (begin.elapsed(), cpu() - before);
    let share = 100.0 * used.as_secs_f64() / took.as_secs_f64();
    let rate = seen.0.len() as f64 / took.as_secs_f64();
    row(
        "8 agents at work: CPU of server and container",
        &format!("{share:.1} % of a core"),
        "5 %",
        &format!("{rate:.0} events/s for {:.1} s", took.as_secs_f64()),
    );
    let [own, its] = [server.pid(), container].map(mebibytes);
    row(
        "8 agents at work: memory",
        &format!("{} MB ({own} + {its})", own + its),
        "80 MB",
        "",
    );
    let disk = disk_floor(server.data.path()).summary();
    row(
        "8 agents at work: container to WebSocket",
        &seen.summary(),
        "p99 5 ms",
        &format!("write+fdatasync {disk}"),
    );
}

/// The town's container process.
fn container_of(folder: &Path) -> u32 {
    let is_container = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = command.split(|byte| *byte == 0);
        let program = arguments.next().unwrap_or_default();
        program.ends_with(b"gastownd") && arguments.next() == Some(b"container")
    };
    let found = processes_of(folder).into_iter().find(is_container);
    found.expect("agents that speak are in a container")
}
