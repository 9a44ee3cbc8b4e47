//! The main job, end to end: a bead is slung, a real agent program does it in a real repository,
//! everyone watches, it lands on main.

use std::time::Duration;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use crate::support::agent_server;
use crate::support::repository::Repository;
use crate::support::scripted_model::{MODEL, PROVIDER, ScriptedModel};
use crate::support::server::{Events, Server};

#[tokio::test(flavor = "multi_thread")]
async fn opencode_does_a_bead_and_all_see_the_same() {
    do_a_bead(AgentServerKind::Opencode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kilo_does_a_bead_and_all_see_the_same() {
    do_a_bead(AgentServerKind::Kilo).await;
}

/// A town config that drives an agent program with a scripted model.
pub(crate) fn scripted_town(kind: AgentServerKind, model: &ScriptedModel) -> Value {
    let config = model.config();
    json!({
        "agent_server": kind.as_str(),
        "default_model": format!("{PROVIDER}/{MODEL}"),
        "small_model": format!("{PROVIDER}/{MODEL}"),
        "providers": config["provider"],
    })
}

async fn do_a_bead(kind: AgentServerKind) {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let repository = Repository::new();
    let program = agent_server::program(kind).expect("tests/agents/install has been run");
    let server = Server::start(&["--agent-program", &program.to_string_lossy()]);
    let town = server.town(scripted_town(kind, &model)).await;
    let rig = server.rig(&town, &repository.origin()).await;

    // The first client subscribes from the beginning, before there is anything to see.
    let polecat = server
        .post(
            &format!("{rig}/agents/get-or-create"),
            json!({"role": "polecat"}),
        )
        .await;
    let agent_id = polecat["id"].as_str().unwrap().to_owned();
    let mut first = server.stream(&town).await;
    first.subscribe(&agent_id, 0).await;
    let mut first = first.events();

    let order = json!({"title": "Greet people", "body": "Write a greeting. SCENARIO:polecat"});
    let slung = server.post(&format!("{rig}/sling"), order).await;
    assert_eq!(
        slung["agent"]["id"],
        agent_id.as_str(),
        "the free polecat is taken"
    );
    assert_eq!(slung["bead"]["status"], "in_progress");
    let bead_id = slung["bead"]["bead_id"].as_str().unwrap().to_owned();

    // The second joins in the middle, from the last id it knows of.
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|event: &Value| event["type"] == "message.part.delta")
    {
        seen.push(first.next().await.expect("the stream goes on"));
    }
    let joined_after = seen.len() as u64 / 2;
    let mut second = server.stream(&town).await;
    second.subscribe(&agent_id, joined_after).await;
    let mut second = second.events();

    let bead = server
        .until(
            "the bead is closed",
            &format!("{rig}/beads/{bead_id}"),
            |bead| {
                assert_ne!(bead["status"], "failed", "{bead:#}");
                bead["status"] == "closed"
            },
        )
        .await;
    assert!(bead["closed_at"].is_string());
    assert_eq!(
        repository.pushed("main", "docs/greeting.md"),
        "# Hello\n\nWelcome.\n"
    );
    let subjects = repository.git(&["log", "--format=%s", "main"]);
    assert!(subjects.contains("Greet people"), "{subjects}");

    // The run ends when the session was stopped; then nothing more comes.
    let agent_path = format!("{rig}/agents/{agent_id}");
    server
        .until("the polecat is free again", &agent_path, |agent| {
            agent["status"] == "idle"
        })
        .await;
    let over_http = until_exited(&server, &agent_path).await;
    let last = over_http.last().unwrap()["id"].as_u64().unwrap();
    let ids: Vec<u64> = over_http
        .iter()
        .map(|event| event["id"].as_u64().unwrap())
        .collect();
    assert_eq!(
        ids,
        (1..=last).collect::<Vec<_>>(),
        "no gap and no repeat over HTTP"
    );

    let streamed = drain(&mut first, seen, last).await;
    assert_eq!(comparable(&streamed), comparable(&over_http));
    let half = drain(&mut second, Vec::new(), last).await;
    assert_eq!(
        comparable(&half),
        comparable(&over_http[usize::try_from(joined_after).unwrap()..])
    );
    for wanted in [
        "agent.started",
        "message.part.delta",
        "message.part.updated",
        "agent.exited",
    ] {
        assert!(
            streamed.iter().any(|event| event["type"] == wanted),
            "{wanted} was streamed"
        );
    }

    let reviews = server.get(&format!("{rig}/beads?type=merge_request")).await;
    assert_eq!(reviews[0]["status"], "closed");
    let escalations = server.get(&format!("{rig}/beads?type=escalation")).await;
    assert_eq!(escalations, json!([]), "nobody had to be called");
}

/// All events of an agent once its run is over.
pub(crate) async fn until_exited(server: &Server, agent_path: &str) -> Vec<Value> {
    loop {
        let events = all_events(server, agent_path).await;
        if events
            .last()
            .is_some_and(|event| event["event_type"] == "agent.exited")
        {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn all_events(server: &Server, agent_path: &str) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events
            .last()
            .map_or(0, |event| event["id"].as_u64().unwrap());
        let page = server
            .get(&format!("{agent_path}/events?after_id={after}&limit=1000"))
            .await;
        let page = page.as_array().unwrap().clone();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

async fn drain(events: &mut Events, mut seen: Vec<Value>, last: u64) -> Vec<Value> {
    while seen
        .last()
        .is_none_or(|event| event["id"].as_u64().unwrap() < last)
    {
        seen.push(events.next().await.expect("the stream goes on"));
    }
    seen
}

/// What both ways of reading tell of an event.
fn comparable(events: &[Value]) -> Vec<(Value, Value, Value, Value)> {
    events
        .iter()
        .map(|event| {
            let either = |a: &str, b: &str| event.get(a).or(event.get(b)).cloned().unwrap();
            (
                event["id"].clone(),
                either("type", "event_type"),
                event["data"].clone(),
                either("timestamp", "created_at"),
            )
        })
        .collect()
}
