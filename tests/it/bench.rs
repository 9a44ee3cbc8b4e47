//! `gastownd-bench`: whether it measures everything it says, tells what is wrong, and leaves nothing
//! behind. How fast anything is, is not asked here.

use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::server::Server;

const BENCH: &str = env!("CARGO_BIN_EXE_gastownd-bench");

/// Runs it to its end.
fn bench(arguments: &[&str]) -> Output {
    Command::new(BENCH)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run that must succeed has measured.
fn measured(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut all = vec!["--quick", "--json", json.to_str().unwrap()];
    all.extend(arguments);
    let output = bench(&all);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for measurement in report["measurements"].as_array().unwrap() {
        let case = measurement["case"].as_str().unwrap();
        assert!(table.contains(case), "{case} is not in the table:\n{table}");
        let counts = ["ours", "floor", "baseline"].map(|who| &measurement[who]);
        for figures in counts.into_iter().filter(|figures| figures.is_object()) {
            assert!(figures["count"].is_u64(), "{figures}");
        }
    }
    report
}

fn cases(report: &Value, bench: &str) -> Vec<String> {
    let all = report["measurements"].as_array().unwrap().iter();
    all.filter(|measurement| measurement["bench"] == bench)
        .map(|measurement| measurement["case"].as_str().unwrap().to_owned())
        .collect()
}

async fn towns(server: &Server) -> usize {
    server.get("/api/towns").await.as_array().unwrap().len()
}

#[test]
fn one_command_measures_every_goal() {
    let report = measured(&["--server", env!("CARGO_BIN_EXE_gastownd"), "all"]);
    for (bench, count) in [
        ("fanout", 11),
        ("append", 9),
        ("backfill", 4),
        ("mixed", 3),
        ("http", 5),
        ("memory", 3),
    ] {
        let cases = cases(&report, bench);
        assert!(cases.len() >= count, "{bench}: {cases:?}");
    }
    let goals = report["goals"].as_array().unwrap();
    for name in [
        "fan-out flat out, 200 subscribers",
        "fan-out paced, 500 x 200 events/s: p99",
        "fan-out paced, joined over 20 ms: CPU",
        "durable append through the relay, 64 agents",
        "HTTP append, 32 connections",
        "HTTP append, a log of 5,000,000 beside one of 10",
        "backfill to one reader",
        "idle subscriber at 5,000",
        "1,000 stalled while 1,000,000 events pass",
        "reopen 5,000,000 events in 500 trees",
    ] {
        assert!(
            goals.iter().any(|goal| goal["measure"] == name),
            "{name} is not among the goals"
        );
    }
    let complete = [
        "mixed, stalls and resumes",
        "  all get everything when they wake",
    ];
    for goal in goals {
        if complete.contains(&goal["measure"].as_str().unwrap()) {
            assert_eq!(goal["reached"], true, "{goal}");
        }
    }
}

#[tokio::test]
async fn each_benchmark_runs_against_a_server_and_leaves_nothing_there() {
    let server = Server::with_login(&[]);
    let url = format!("http://{}", server.address());
    for (bench, options, count) in [
        ("fanout", &["--subscribers", "3", "--agents", "2"][..], 2),
        ("append", &["--producers", "2"], 2),
        ("backfill", &["--events", "500", "--readers", "1,3"], 2),
        ("mixed", &["--speed", "20"], 1),
        ("http", &["--connections", "2"], 3),
        (
            "memory",
            &["--idle", "5", "--stalled", "3", "--events", "500"],
            2,
        ),
    ] {
        let mut arguments = vec!["--url", &url, "--token", server.token(), bench];
        arguments.extend(options);
        let report = measured(&arguments);
        assert_eq!(cases(&report, bench).len(), count, "{report:#}");
        assert_eq!(towns(&server).await, 0, "{bench} left a town");
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_cleans_up() {
    let server = Server::with_login(&[]);
    let url = format!("http://{}", server.address());
    let mut child = Command::new(BENCH)
        .args(["--url", &url, "--token", server.token(), "fanout"])
        .args(["--subscribers", "1", "--rate", "1", "--events", "1000"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    server
        .until("its town is there", "/api/towns", |towns| {
            towns.as_array().is_some_and(|towns| !towns.is_empty())
        })
        .await;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(towns(&server).await, 0);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = Server::with_login(&[]);
    let url = format!("http://{}", server.address());
    let nobody = {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (arguments, said) in [
        (&["--url", &nobody, "http"][..], "no server answers at"),
        (&["--url", &url, "http"], "--token"),
        (&["--url", &url, "--token", "wrong", "fanout"], "--token"),
        (
            &["--url", "https://127.0.0.1", "http"],
            "must be like http://",
        ),
        (
            &["--server", "/nowhere/gastownd", "http"],
            "name it with --server",
        ),
        (
            &[
                "--url",
                &url,
                "--token",
                server.token(),
                "append",
                "--through",
                "relay",
            ],
            "a server of our own",
        ),
        (&["fanout", "--subscribers", "0"], "--subscribers"),
    ] {
        let output = bench(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let words = stderr(&output);
        assert!(words.contains(said), "{arguments:?}: {words}");
    }
    assert_eq!(towns(&server).await, 0);
}

#[tokio::test]
async fn too_few_files_are_told_before_anything_is_made() {
    let server = Server::with_login(&[]);
    let script = format!(
        "ulimit -n 256 && exec {BENCH} --url http://{} --token {} fanout --subscribers 500",
        server.address(),
        server.token()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = stderr(&output);
    assert!(
        !output.status.success() && words.contains("ulimit -Hn"),
        "{words}"
    );
    assert_eq!(towns(&server).await, 0);
}

#[tokio::test]
async fn a_served_town_is_left_alone() {
    let server = Server::with_login(&[]);
    let name = json!({"name": "Ours"});
    let own = server.post("/api/users/u/towns", name).await;
    let url = format!("http://{}", server.address());
    measured(&[
        "--url",
        &url,
        "--token",
        server.token(),
        "append",
        "--producers",
        "1",
    ]);
    let left = server.get("/api/towns").await;
    assert_eq!(left[0]["id"], own["id"]);
    assert_eq!(left.as_array().unwrap().len(), 1);
}
