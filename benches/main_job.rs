//! The main job's speed and size, measured on the real program: ready time, memory, sling to the
//! agent's first prompt, the way of an event from the agent server's stream to a WebSocket, eight
//! agents at work, and a warm opencode, which `tests/agents/install` fetches.
//!
//! `cargo bench --bench main_job` prints a table with the goal and a floor of the same run beside
//! each figure. With `-- --test` everything runs once, to show that it runs.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't go on has nothing to say"
)]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gastownd::clock::Clock;
use gastownd::model::Timestamp;
use serde_json::{Value, json};

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/support/mod.rs"]
mod support;

#[path = "main_job/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "shared with the load tests, which use all of it")]
#[path = "load/process.rs"]
mod process;
#[path = "main_job/real.rs"]
mod real;

use process::Process;
use support::repository::Repository;
use support::server::{Server, Stream, processes_of};

/// The pause between two pieces of text that the rehearsal says: as fast as a quick model.
const PACE_MS: u64 = 5;

struct Rounds {
    starts: usize,
    slings: usize,
    /// Words that each of eight agents says.
    words: usize,
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let rounds = if smoke {
        Rounds {
            starts: 1,
            slings: 1,
            words: 20,
        }
    } else {
        Rounds {
            starts: 20,
            slings: 20,
            words: 1500,
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{:<44} {:>26} {:>12} {:>26}",
        "measure", "ours", "goal", "floor of the same run"
    );
    ready(rounds.starts);
    runtime.block_on(work(rounds.slings));
    runtime.block_on(fleet::at_work(rounds.words));
    runtime.block_on(real::slings(rounds.slings));
}

fn row(measure: &str, ours: &str, goal: &str, floor: &str) {
    println!("{measure:<44} {ours:>26} {goal:>12} {floor:>26}");
}

/// What a process has in memory.
fn mebibytes(pid: u32) -> u64 {
    Process(pid).resident() / (1 << 20)
}

/// A rig, its one polecat, and a stream on which that is seen.
async fn polecat(server: &Server, town: &str, repository: &Repository) -> (String, String, Stream) {
    let rig = server.rig(town, &repository.origin()).await;
    let path = format!("{rig}/agents/get-or-create");
    let agent = server.post(&path, json!({"role": "polecat"})).await;
    let agent_id = agent["id"].as_str().unwrap().to_owned();
    let mut stream = server.stream(town).await;
    stream.subscribe(&agent_id, 0).await;
    (rig, agent_id, stream)
}

/// From the start of the process to its line on stdout, on an empty data folder.
fn ready(rounds: usize) {
    let mut ours = Samples::default();
    let mut floor = Samples::default();
    for _ in 0..rounds {
        let begin = Instant::now();
        let mut server = Server::start(&[]);
        ours.push(begin.elapsed());
        assert!(server.terminate().success());
        let begin = Instant::now();
        let version = Command::new(env!("CARGO_BIN_EXE_gastownd"))
            .arg("--version")
            .output();
        assert!(version.unwrap().status.success());
        floor.push(begin.elapsed());
    }
    let floor = format!("--version {}", floor.summary());
    row(
        "ready on an empty data folder",
        &ours.summary(),
        "300 ms",
        &floor,
    );
}

/// One town at work with the rehearsal, so that only our own time counts.
async fn work(slings: usize) {
    let repository = Repository::new();
    let server = Server::start(&[]);
    let town = server
        .town(json!({
            "agent_server": "rehearsal",
            "providers": {"rehearsal": {"pace_ms": PACE_MS}},
        }))
        .await;
    let (rig, agent_id, mut stream) = polecat(&server, &town, &repository).await;

    // The first bead warms the agent server and is not counted.
    bead(&server, &rig, &agent_id, &mut stream).await;
    let mut prompts = Samples::default();
    let mut events = Samples::default();
    for _ in 0..slings {
        let run = bead(&server, &rig, &agent_id, &mut stream).await;
        prompts.push(run.prompted);
        events.0.extend(run.events.0);
    }
    row(
        "sling to the agent's prompt, warm agent server",
        &prompts.summary(),
        "100 ms",
        &git_floor(&repository),
    );
    let floor = format!(
        "write+fdatasync {}",
        disk_floor(server.data.path()).summary()
    );
    row(
        "event: agent server's stream to WebSocket",
        &events.summary(),
        "p99 10 ms",
        &floor,
    );

    let container = processes_of(server.data.path());
    let memory = |pids: &[u32]| pids.iter().map(|pid| mebibytes(*pid)).sum::<u64>();
    let (own, idle) = (memory(&[server.pid()]), memory(&container));
    let ours = format!("{} MB ({own} + {idle})", own + idle);
    row(
        "memory of server and one idle container",
        &ours,
        "40 MB",
        "",
    );
}

struct Run {
    prompted: Duration,
    events: Samples,
}

/// Slings a bead and follows it until the polecat is free again.
async fn bead(server: &Server, rig: &str, agent_id: &str, stream: &mut Stream) -> Run {
    let begin = Instant::now();
    let slung = server
        .post(&format!("{rig}/sling"), json!({"title": "Note the tides"}))
        .await;
    assert_eq!(slung["agent"]["id"], agent_id);
    let mut run = Run {
        prompted: Duration::ZERO,
        events: Samples::default(),
    };
    loop {
        let event = stream.event().await.unwrap();
        let now = Clock::system().now();
        if event["type"] == "message.updated"
            && event["data"]["info"]["role"] == "user"
            && run.prompted.is_zero()
        {
            run.prompted = begin.elapsed();
        }
        if event["type"] == "message.part.delta" {
            // The container's stamp has whole milliseconds, so each figure is up to 1 ms too long.
            let made = Timestamp::parse(event["timestamp"].as_str().unwrap()).unwrap();
            run.events.push(now.since(made));
        }
        if event["type"] == "agent.exited" {
            break;
        }
    }
    let bead = format!("{rig}/beads/{}", slung["bead"]["bead_id"].as_str().unwrap());
    let closed = |bead: &Value| bead["status"] == "closed";
    server.until("the bead is merged", &bead, closed).await;
    let agent = format!("{rig}/agents/{agent_id}");
    server
        .until("the polecat is free", &agent, |agent| {
            agent["status"] == "idle"
        })
        .await;
    run
}

/// What git alone needs for the fetch and checkout before a prompt.
fn git_floor(repository: &Repository) -> String {
    let mut samples = Samples::default();
    let work = repository.work();
    for _ in 0..10 {
        let begin = Instant::now();
        for arguments in [
            &["fetch", "-q", "origin"][..],
            &["checkout", "-q", "-B", "bench", "origin/main"],
        ] {
            let done = Command::new("git")
                .args(arguments)
                .current_dir(&work)
                .status();
            assert!(done.unwrap().success());
        }
        samples.push(begin.elapsed());
    }
    format!("git alone {}", samples.summary())
}

/// The disk alone: one event's bytes, written and made durable.
fn disk_floor(folder: &Path) -> Samples {
    let mut file = File::create(folder.join("floor")).unwrap();
    let mut samples = Samples::default();
    for _ in 0..200 {
        let begin = Instant::now();
        file.write_all(&[b'x'; 300]).unwrap();
        file.sync_data().unwrap();
        samples.push(begin.elapsed());
    }
    samples
}

#[derive(Default)]
struct Samples(Vec<Duration>);

impl Samples {
    fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    fn summary(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
            sorted
                .get(index)
                .map_or(0.0, |sample| sample.as_secs_f64() * 1000.0)
        };
        format!("p50 {:.1} p99 {:.1} ms", at(50), at(99))
    }
}
