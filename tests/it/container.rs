//! The container process's control server, over its real socket, with the rehearsal as agent server.

use std::path::PathBuf;
use std::time::Duration;

use gastownd::clock::Clock;
use gastownd::container::control_server::{self, ContainerOptions};
use gastownd::container::git::AllowedRepositories;
use gastownd::lifecycle::Lifecycle;
use gastownd::model::{AgentId, BeadId, TownId};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::support::container::{Container, LIMITS, PATIENCE};

#[tokio::test]
async fn a_bead_is_worked_on_heard_of_and_merged() {
    let container = Container::new("").await;
    let agent = AgentId::random();
    let mut link = container.link(None, 0).await;
    container.start(agent).await;
    let started = link.hear("agent.started").await;
    assert_eq!(started["branch"], "gastown/toast/1");
    assert_eq!(started["resumed"], false);
    assert_eq!(link.hear("agent.idle").await, json!({"ending": false}));
    assert!(link.types().contains(&"message.part.delta"));
    assert_eq!(
        container.tools.called().last().unwrap(),
        "done",
        "{}",
        link.last_parts()
    );
    let count = link.sequences().len() as u64;
    assert_eq!(link.sequences(), (0..count).collect::<Vec<_>>());
    let owned = link
        .heard
        .iter()
        .skip(1)
        .all(|message| message["agentId"] == agent.to_string());
    assert!(owned, "every message is the agent's");

    let (_, status) = container
        .call("GET", &format!("/agents/{agent}/status"), "")
        .await;
    assert_eq!(
        (&status["status"], &status["busy"]),
        (&json!("running"), &json!(false))
    );

    let merge = json!({
        "rigId": container.rig.to_string(), "branch": "gastown/toast/1", "targetBranch": "main",
        "gitUrl": container.origin(), "entryId": BeadId::random().to_string(), "message": "Merge it",
    });
    assert_eq!(
        container.post("/git/merge", &merge).await,
        StatusCode::ACCEPTED
    );
    let merged = link.hear("agent.merge").await;
    assert_eq!(merged["status"], "merged", "{merged}");
    assert!(!container.repository.has_branch("gastown/toast/1"));
    // Asking again tells the same again.
    assert_eq!(
        container.post("/git/merge", &merge).await,
        StatusCode::ACCEPTED
    );
    assert_eq!(link.hear("agent.merge").await, merged);

    container.post("/drain", &json!({})).await;
    let exited = link.hear("agent.exited").await;
    assert_eq!(exited["status"], "drained");
    link.ack(*link.sequences().last().unwrap()).await;
    container.running.await.unwrap();
}

#[tokio::test]
async fn a_broken_link_goes_on_without_gap_or_repeat() {
    let container = Container::new("").await;
    let mut first = container.link(None, 0).await;
    container.start(AgentId::random()).await;
    first.hear("message.part.delta").await;
    let epoch = first.heard[0]["data"]["epoch"].as_str().unwrap().to_owned();
    let seen = first.sequences().last().copied().unwrap();
    drop(first);
    let mut second = container.link(Some(&epoch), seen).await;
    second.hear("agent.idle").await;
    assert_eq!(second.heard[0]["data"]["recovered"], true);
    assert_eq!(second.heard[0]["data"]["nextSeq"], seen + 1);
    let sequences = second.sequences().split_off(1);
    assert_eq!(sequences[0], seen + 1);
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));

    // A server that knows nothing gets all that is held; a newer link ends the older.
    let mut third = container
        .link(Some("b2b5a3a8-2c1e-4a55-9d5c-0d9a4b1c2e3f"), 7)
        .await;
    let hello = third.next().await;
    assert_eq!(hello["data"]["recovered"], false);
    assert_eq!(third.next().await["seq"], hello["data"]["nextSeq"]);
    let ended = tokio::time::timeout(PATIENCE, async {
        while second.socket.read_frame().await.is_ok() {}
    });
    ended.await.unwrap();
    container.post("/shutdown", &json!({})).await;
    container.running.await.unwrap();
}

#[tokio::test]
async fn a_model_that_fails_ends_the_agent_with_its_words() {
    let container = Container::new("rehearse: error the model is on holiday").await;
    let agent = AgentId::random();
    let mut link = container.link(None, 0).await;
    container.start(agent).await;
    let idle = link.hear("agent.idle").await;
    assert!(
        idle["error"].as_str().unwrap().contains("on holiday"),
        "{idle}"
    );
    let exited = link.hear("agent.exited").await;
    assert_eq!(
        (&exited["status"], &exited["kind"]),
        (&json!("failed"), &json!("model"))
    );
    assert!(exited["reason"].as_str().unwrap().contains("on holiday"));
    let (_, status) = container
        .call("GET", &format!("/agents/{agent}/status"), "")
        .await;
    assert_eq!(status["status"], "failed");
}

#[tokio::test]
async fn a_model_that_does_not_answer_is_given_up() {
    let container = Container::new("rehearse: retry nobody answers").await;
    let mut link = container.link(None, 0).await;
    container.start(AgentId::random()).await;
    let exited = link.hear("agent.exited").await;
    assert_eq!(
        (&exited["status"], &exited["kind"]),
        (&json!("failed"), &json!("model"))
    );
    assert!(
        exited["reason"]
            .as_str()
            .unwrap()
            .contains("nobody answers"),
        "{exited}"
    );
}

#[tokio::test]
async fn an_agent_server_that_crashes_is_told_of_and_replaced() {
    let container = Container::new("rehearse: crash").await;
    let mut link = container.link(None, 0).await;
    let agent = AgentId::random();
    container.start(agent).await;
    let exited = link.hear("agent.exited").await;
    assert_eq!(exited["kind"], "agent_server", "{exited}");
    let mut again = container.start_body(agent);
    again["prompt"] = json!("");
    assert_eq!(
        container.post("/agents/start", &again).await,
        StatusCode::ACCEPTED
    );
    link.hear("agent.started").await;
    assert_eq!(container.call("GET", "/health", "").await.1["servers"], 1);
}

#[tokio::test]
async fn a_question_is_told_and_answered() {
    let container = Container::new("rehearse: ask question Which colour? | Red | Blue").await;
    let mut link = container.link(None, 0).await;
    let agent = AgentId::random();
    container.start(agent).await;
    let waiting = link.hear("agent.waiting").await;
    assert_eq!(
        (&waiting["kind"], &waiting["title"]),
        (&json!("question"), &json!("Which colour?"))
    );
    let ask = waiting["askId"].as_str().unwrap();
    let (_, status) = container
        .call("GET", &format!("/agents/{agent}/status"), "")
        .await;
    assert_eq!(status["status"], "waiting");
    assert_eq!(status["asks"][0]["askId"], ask);
    let permission = format!("/agents/{agent}/permissions/{ask}");
    let wrong = container.post(&permission, &json!({"reply": "once"})).await;
    assert_eq!(wrong, StatusCode::NOT_FOUND);
    let answer = json!({"answers": [["Blue"]]});
    let done = container
        .post(&format!("/agents/{agent}/questions/{ask}"), &answer)
        .await;
    assert_eq!(done, StatusCode::OK);
    assert_eq!(link.hear("agent.resumed").await["askId"], ask);
    link.hear("agent.idle").await;
}

#[tokio::test]
async fn a_hanging_agent_is_stopped_and_resumes_its_session() {
    let container = Container::new("rehearse: write draft.txt <<half\nrehearse: hang").await;
    let mut link = container.link(None, 0).await;
    let agent = AgentId::random();
    container.start(agent).await;
    let started = link.hear("agent.started").await;
    link.hear("message.part.delta").await;
    assert_eq!(
        container
            .post(&format!("/agents/{agent}/stop"), &json!({}))
            .await,
        StatusCode::ACCEPTED
    );
    let exited = link.hear("agent.exited").await;
    assert_eq!(
        (&exited["status"], &exited["kind"]),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(
        container
            .post(&format!("/agents/{agent}/stop"), &json!({}))
            .await,
        StatusCode::CONFLICT
    );
    let message = json!({"prompt": "hello"});
    let refused = container
        .post(&format!("/agents/{agent}/message"), &message)
        .await;
    assert_eq!(refused, StatusCode::CONFLICT);

    let mut again = container.start_body(agent);
    again["sessionId"] = started["sessionId"].clone();
    again["prompt"] = json!("");
    assert_eq!(
        container.post("/agents/start", &again).await,
        StatusCode::ACCEPTED
    );
    let resumed = link.hear("agent.started").await;
    assert_eq!(
        (&resumed["resumed"], &resumed["sessionId"]),
        (&json!(true), &started["sessionId"])
    );
    let remove = container
        .post(&format!("/agents/{agent}/remove"), &json!({}))
        .await;
    assert_eq!(remove, StatusCode::OK);
    assert!(!PathBuf::from(started["worktree"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_told_with_gits_words() {
    let container = Container::new("").await;
    let mut link = container.link(None, 0).await;
    let mut body = container.start_body(AgentId::random());
    body["gitUrl"] = json!("/nowhere/at/all.git");
    assert_eq!(
        container.post("/agents/start", &body).await,
        StatusCode::ACCEPTED
    );
    let exited = link.hear("agent.exited").await;
    assert_eq!(
        (&exited["status"], &exited["kind"]),
        (&json!("failed"), &json!("repository"))
    );
    assert!(
        exited["reason"]
            .as_str()
            .unwrap()
            .contains("/nowhere/at/all.git"),
        "{exited}"
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let container = Container::new("rehearse: hang").await;
    let agent = AgentId::random();
    let good = container.start_body(agent);
    let but = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string()
    };
    let cases = [
        ("POST", "/agents/start".to_owned(), "{".to_owned(), 400),
        ("POST", "/agents/start".to_owned(), "{}".to_owned(), 400),
        (
            "POST",
            "/agents/start".to_owned(),
            but("role", json!("king")),
            400,
        ),
        (
            "POST",
            "/agents/start".to_owned(),
            but("branch", json!("--force")),
            400,
        ),
        (
            "POST",
            "/agents/start".to_owned(),
            but("gitUrl", json!("ext::sh -c id")),
            400,
        ),
        (
            "POST",
            "/agents/start".to_owned(),
            but("townId", json!(TownId::random().to_string())),
            404,
        ),
        (
            "POST",
            format!("/agents/{agent}/message"),
            json!({"prompt": "x"}).to_string(),
            404,
        ),
        (
            "POST",
            format!("/agents/{agent}/message"),
            "[]".to_owned(),
            400,
        ),
        (
            "POST",
            format!("/agents/{agent}/stop"),
            "null".to_owned(),
            400,
        ),
        ("GET", format!("/agents/{agent}/status"), String::new(), 404),
        (
            "GET",
            "/agents/not-an-id/status".to_owned(),
            String::new(),
            404,
        ),
        (
            "POST",
            format!("/agents/{agent}/questions/que_1"),
            "{}".to_owned(),
            404,
        ),
        ("POST", "/git/merge".to_owned(), "{}".to_owned(), 400),
        ("GET", "/ws".to_owned(), String::new(), 400),
        ("GET", "/nothing".to_owned(), String::new(), 404),
        ("DELETE", "/health".to_owned(), String::new(), 404),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = container.call(method, &path, &body).await;
        assert_eq!(
            status.as_u16(),
            expected,
            "{method} {path} {body}: {answer}"
        );
        assert!(
            answer["error"].is_string() && answer["code"].is_string(),
            "{answer}"
        );
    }
    let (_, health) = container.call("GET", "/health", "").await;
    assert_eq!(
        (&health["status"], &health["agents"]),
        (&json!("ok"), &json!(0))
    );

    container.start(agent).await;
    assert_eq!(
        container.post("/agents/start", &good).await,
        StatusCode::CONFLICT
    );
    let mut twin = container.start_body(AgentId::random());
    twin["identity"] = json!("other@town");
    assert_eq!(
        container.post("/agents/start", &twin).await,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn a_second_container_of_the_same_socket_is_refused() {
    let container = Container::new("").await;
    let options = ContainerOptions {
        town_id: container.town,
        socket: container.folder.path().join("run/c.sock"),
        tcp: None,
        workspace: container.folder.path().join("workspace"),
        agent_program: None,
        guard: PathBuf::from(env!("CARGO_BIN_EXE_gastownd")),
        linger: Duration::from_secs(600),
        drain_time: Duration::from_secs(45),
        limits: LIMITS,
        allowed: AllowedRepositories {
            local: true,
            http: false,
        },
    };
    let error = control_server::run(options, Clock::system(), Lifecycle::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("another container process"),
        "{error}"
    );
    assert_eq!(container.call("GET", "/health", "").await.0, StatusCode::OK);
}
