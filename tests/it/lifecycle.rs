//! A container's life as people see it: it comes with the first rig, sleeps when nothing needs it,
//! wakes for the next message or bead, and says so at every step.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::case::{Case, names, rehearsal};
use crate::support::repository::Repository;
use crate::support::server::Server;

/// It is there before anybody needs it.
const WITH_FIRST_RIG: &[(&str, &str)] = &[("GASTOWND_CONTAINER_ON_DEMAND", "false")];

async fn case(arguments: &[&str], environment: &[(&str, &str)]) -> Case {
    let repository = Repository::new();
    let url = repository.origin();
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let arguments = [arguments, &["--container-stop-on-exit"]].concat();
    let server = Server::start_in(data, &arguments, environment);
    Case::at(server, repository, &url.to_string_lossy(), rehearsal()).await
}

async fn health(case: &Case) -> Value {
    case.server
        .get(&format!("{}/container/health", case.town))
        .await
}

/// The `nth` time, from 1, that the container came into this state.
async fn until_state(case: &mut Case, state: &str, nth: usize) -> Value {
    let seen = std::cell::Cell::new(0);
    case.facts
        .until(&format!("container.{state}"), |_| {
            seen.set(seen.get() + 1);
            seen.get() == nth
        })
        .await
}

async fn tell_mayor(case: &Case, message: &str) -> String {
    let body = json!({"message": message});
    let told = case
        .server
        .post(&format!("{}/mayor/message", case.town), body)
        .await;
    told["agentId"].as_str().unwrap().to_owned()
}

fn kill(pid: &Value, signal: Signal) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn it_comes_with_the_first_rig_sleeps_and_wakes_for_a_message_or_a_bead() {
    let mut case = case(&["--container-sleep-after", "2s"], WITH_FIRST_RIG).await;
    until_state(&mut case, "starting", 1).await;
    let ready = until_state(&mut case, "ready", 1).await;
    let started = case.facts.until("agent.started", |_| true).await;
    assert_eq!(started["rig_id"], Value::Null, "the mayor: {started}");

    let draining = until_state(&mut case, "draining", 1).await;
    assert!(
        names(&draining["metadata"]["reason"], "nothing has needed it"),
        "{draining}"
    );
    let asleep = until_state(&mut case, "asleep", 1).await;
    assert_eq!(asleep["metadata"]["epoch"], ready["metadata"]["epoch"]);
    let health = health(&case).await;
    assert_eq!(
        (&health["status"], &health["state"]),
        (&json!("asleep"), &json!("asleep")),
        "{health}"
    );
    assert!(names(&health["reason"], "drained"), "{health}");

    // To ask how it is wakes nobody; a message does.
    let mayor = tell_mayor(&case, "Good morning").await;
    until_state(&mut case, "ready", 2).await;
    assert_eq!(case.facts.count("container.starting", |_| true), 2);
    let delivered = |fact: &Value| fact["agent_id"] == mayor.as_str();
    case.facts.until("mail.delivered", delivered).await;
    until_state(&mut case, "asleep", 2).await;

    // So does a bead, and it is not sent to sleep before that is done, however long it takes.
    let words = "word ".repeat(80);
    let body = format!("rehearse: slow 50ms\nrehearse: say {words}\nrehearse: write a.md <<A");
    let bead = case.sling("Take your time", &body).await;
    until_state(&mut case, "ready", 3).await;
    let exited = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    case.facts.until("agent.exited", exited).await;
    assert_eq!(case.facts.count("container.draining", |_| true), 2);
    case.expect_closed(&bead).await;
    until_state(&mut case, "asleep", 3).await;
    case.end().await;
}

#[tokio::test]
async fn what_comes_while_it_drains_is_done_by_the_next_one() {
    let arguments = ["--container-drain-time", "2s"];
    let mut case = case(&arguments, &[]).await;
    let bead = case.sling("Never end", "rehearse: hang").await;
    case.started(&bead).await;
    let health = health(&case).await;
    assert_eq!(
        (&health["status"], &health["state"], &health["agents"]),
        (&json!("ok"), &json!("ready"), &json!(1)),
        "{health}"
    );
    kill(&health["pid"], Signal::TERM);
    let draining = until_state(&mut case, "draining", 1).await;
    assert!(
        names(&draining["metadata"]["reason"], "signal"),
        "{draining}"
    );
    let mayor = tell_mayor(&case, "Are you there?").await;
    until_state(&mut case, "asleep", 1).await;
    until_state(&mut case, "ready", 2).await;
    let delivered = |fact: &Value| fact["agent_id"] == mayor.as_str();
    case.facts.until("mail.delivered", delivered).await;
    // To be drained was no failure.
    let own = |fact: &Value| {
        fact["agent_id"] == bead.agent_id.as_str() && fact["metadata"]["status"] == "failed"
    };
    assert_eq!(case.facts.count("agent.exited", own), 0);
    let again = |fact: &Value| {
        fact["agent_id"] == bead.agent_id.as_str() && fact["metadata"]["attempt"] == 1
    };
    let times = std::cell::Cell::new(0);
    case.facts
        .until("agent.dispatched", |fact| {
            times.set(times.get() + usize::from(again(fact)));
            times.get() == 2
        })
        .await;
    case.end().await;
}

#[tokio::test]
async fn a_killed_one_is_told_with_its_last_words_and_its_stats_before() {
    let mut case = case(&[], &[]).await;
    let bead = case.sling("Never end", "rehearse: hang").await;
    case.started(&bead).await;
    let stats = case.facts.until("container.stats", |_| true).await;
    let stats = &stats["metadata"];
    assert_eq!(
        (&stats["agents"], &stats["servers"]),
        (&json!(1), &json!(1))
    );
    assert!(stats["memory_bytes"].as_u64() > Some(1 << 20), "{stats}");
    assert!(stats["processes"].as_u64() >= Some(1), "{stats}");
    let health = health(&case).await;
    assert_eq!(health["stats"]["rssBytes"], stats["memory_bytes"]);
    kill(&health["pid"], Signal::KILL);
    let asleep = until_state(&mut case, "asleep", 1).await;
    assert!(names(&asleep["metadata"]["reason"], "SIGKILL"), "{asleep}");
    case.end().await;
}

#[tokio::test]
async fn one_that_can_not_start_is_tried_again_then_a_person_is_called_and_asking_helps() {
    let tries = [
        "--dispatch-attempts-max",
        "2",
        "--dispatch-backoff-min",
        "1s",
    ];
    let mut case = case(&tries, &[]).await;
    let run: PathBuf = case.server.data.path().join("run");
    let _ = std::fs::remove_dir(&run);
    std::fs::write(&run, "in the way").unwrap();
    let bead = case.sling("Greet people", "").await;
    let first = until_state(&mut case, "failed", 1).await;
    assert!(first["metadata"]["retry_at"].is_string(), "{first}");
    case.expect_no_container("run").await;
    assert_eq!(case.facts.count("container.failed", |_| true), 2);
    let failed = health(&case).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(names(&failed["reason"], "run"), "{failed}");
    let waits = case.server.get(&bead.path).await;
    assert_eq!(waits["status"], "in_progress", "it is not the bead's fault");

    std::fs::remove_file(&run).unwrap();
    tell_mayor(&case, "Try again").await;
    until_state(&mut case, "ready", 1).await;
    case.expect_closed(&bead).await;
    let open = format!("{}/escalations?acknowledged=false", case.town);
    let open = case.server.get(&open).await;
    assert_eq!(open, json!([]), "nobody need look at it any more");
    case.end().await;
}
