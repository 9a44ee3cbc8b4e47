//! Routes that older clients use: an agent's run in the container, its stream, the mayor's tools.

use serde_json::{Value, json};

use crate::support::case::{Case, ONE_TRY, Slung};
use crate::support::server::{Server, Stream, request};

async fn call(server: &Server, method: &str, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = server.call(method, path, body).await;
    (status.as_u16(), answer)
}

/// An agent that waits in the middle of its work.
async fn waiting(case: &mut Case) -> Slung {
    let bead = case
        .sling(
            "Paint the bridge",
            "rehearse: ask question Which colour? | Red",
        )
        .await;
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    case.facts.until("agent.waiting", own).await;
    bead
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_shown_spoken_to_stopped_and_started() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let run = |id: &str, what: &str| format!("{}/container/agents/{id}{what}", case.town);
    let nobody = uuid::Uuid::new_v4().to_string();
    let new = json!({"role": "polecat", "name": "Idle", "identity": "idle"});
    let idle = case.server.post(&format!("{}/agents", case.rig), new).await;
    let idle = idle["id"].as_str().unwrap().to_owned();
    let message = json!({"prompt": "Go on"});
    // Nothing runs: no container, and nothing to start.
    let (status, answer) = call(&case.server, "GET", &run(&idle, "/status"), Value::Null).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("container_unavailable"))
    );
    let (status, answer) = call(
        &case.server,
        "POST",
        &run(&idle, "/message"),
        message.clone(),
    )
    .await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("agent_not_running"))
    );
    let start = run("start", "");
    let (status, answer) = call(&case.server, "POST", &start, json!({"agentId": idle})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("hook_empty")));
    for (method, what, body) in [
        ("GET", "/status", Value::Null),
        ("POST", "/message", message.clone()),
        ("POST", "/stop", Value::Null),
    ] {
        let (status, answer) = call(&case.server, method, &run(&nobody, what), body).await;
        assert_eq!(
            (status, &answer["code"]),
            (404, &json!("agent_not_found")),
            "{what}"
        );
    }

    let bead = waiting(&mut case).await;
    let run = |what: &str| format!("{}/container/agents/{}{what}", case.town, bead.agent_id);
    let state = case.server.get(&run("/status")).await;
    assert_eq!(state["status"], "waiting", "{state}");
    assert_eq!(state["agentId"], bead.agent_id.as_str());
    assert!(
        state["sessionId"].is_string() && state["messageCount"].is_u64(),
        "{state}"
    );
    let health = case
        .server
        .get(&format!("{}/container/health", case.town))
        .await;
    assert_eq!(health["status"], "ok");
    let again = json!({"agentId": bead.agent_id});
    let (status, answer) = call(&case.server, "POST", &start, again.clone()).await;
    assert_eq!((status, &answer["code"]), (409, &json!("agent_running")));
    let sent = case.server.post(&run("/message"), message).await;
    assert_eq!(sent["sent"], true);

    // The work goes back; on the hook again it is the scheduler that starts it, and only it.
    let stopped = case.server.post(&run("/stop"), Value::Null).await;
    assert_eq!(stopped["stopped"], true);
    case.facts
        .until("agent.exited", |fact| {
            fact["agent_id"] == bead.agent_id.as_str()
        })
        .await;
    assert_eq!(case.server.get(&bead.path).await["status"], "open");
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_socket_gives_one_agent_from_its_first_event_on() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let bead = waiting(&mut case).await;
    let path = format!("{}/container/agents/{}/stream", case.town, bead.agent_id);
    let mut older = Stream::connect(case.server.address(), &path, &[]).await;
    assert_eq!(older.next().await.unwrap()["type"], "hello");
    let mut newer = case.server.stream(&case.town).await;
    newer.subscribe(&bead.agent_id, 0).await;
    for id in 1..=5_u64 {
        let mut old = older.event().await.unwrap();
        let new = newer.event().await.unwrap();
        assert_eq!(old["id"], id);
        let event = old.as_object_mut().unwrap().remove("event");
        assert_eq!(event.as_ref(), Some(&new["type"]));
        assert_eq!(old, new, "and the rest is the same");
    }
    let unknown = format!(
        "{}/container/agents/{}/stream",
        case.town,
        uuid::Uuid::new_v4()
    );
    let (status, _) = request(case.server.address(), "GET", &unknown, &[], vec![]).await;
    assert_eq!(status, 404);
    case.server
        .post(&format!("{}/close", bead.path), json!({}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mayor_has_its_tools_over_http_and_can_be_removed() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let (server, town) = (&case.server, &case.town);
    let town_id = town.rsplit('/').next().unwrap();
    let rig_id = case.rig.rsplit('/').next().unwrap().to_owned();
    let tools = format!("/api/mayor/{town_id}/tools");
    let status = server.get(&format!("{town}/mayor/status")).await;
    assert_eq!(status["configured"], true, "it came with the rig");
    let first = status["session"]["agentId"].clone();

    let rigs = server.get(&format!("{tools}/rigs")).await;
    assert_eq!(rigs[0]["id"], rig_id.as_str());
    let order = json!({"rig_id": rig_id, "title": "Greet people", "priority": "high"});
    let slung = server.post(&format!("{tools}/sling"), order).await;
    assert_eq!(slung["bead"]["priority"], "high");
    let beads = format!("{tools}/rigs/{rig_id}/beads?type=issue");
    let beads = server.get(&beads).await;
    assert_eq!(beads[0]["bead_id"], slung["bead"]["bead_id"]);
    let agents = server.get(&format!("{tools}/rigs/{rig_id}/agents")).await;
    let agent_id = slung["agent"]["id"].clone();
    assert_eq!(agents[0]["id"], agent_id);
    let mail = json!({"rig_id": rig_id, "to_agent_id": agent_id, "subject": "s", "body": "b"});
    let sent = server.post(&format!("{tools}/mail"), mail.clone()).await;
    assert_eq!(sent, json!({"sent": true}));
    let elsewhere = uuid::Uuid::new_v4().to_string();
    for (path, mut body, code) in [
        ("sling", json!({"title": "t"}), "rig_not_found"),
        ("mail", mail, "rig_not_found"),
    ] {
        body["rig_id"] = elsewhere.clone().into();
        let (status, answer) = call(server, "POST", &format!("{tools}/{path}"), body).await;
        assert_eq!((status, &answer["code"]), (404, &json!(code)), "{path}");
    }

    let over = json!({"status": "completed"});
    let answer = server
        .post(&format!("{town}/mayor/completed"), over.clone())
        .await;
    assert_eq!(answer, json!({"acknowledged": true}));
    for _ in 0..2 {
        let gone = server
            .post(&format!("{town}/mayor/destroy"), Value::Null)
            .await;
        assert_eq!(gone, json!({"destroyed": true}));
    }
    let (status, answer) = call(server, "POST", &format!("{town}/mayor/completed"), over).await;
    assert_eq!((status, &answer["code"]), (404, &json!("mayor_not_found")));
    let status = server.get(&format!("{town}/mayor/status")).await;
    assert_eq!(status["configured"], false);
    let configured = server
        .post(&format!("{town}/mayor/configure"), json!({"anything": 1}))
        .await;
    assert_eq!(configured, json!({"configured": true}));
    let second = server.get(&format!("{town}/mayor/status")).await;
    assert_ne!(second["session"]["agentId"], first);
    let bead = slung["bead"]["bead_id"].clone();
    case.facts
        .until("bead.closed", |fact| fact["bead_id"] == bead)
        .await;
}
