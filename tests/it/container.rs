//! The container process's control server, over its real socket, with the rehearsal as agent server.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use gastownd::clock::Clock;
use gastownd::container::control_server::{self, ContainerOptions};
use gastownd::container::git::AllowedRepositories;
use gastownd::lifecycle::Lifecycle;
use gastownd::model::{AgentId, BeadId, RigId, TownId};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::support::repository::Repository;
use crate::support::tool_server::ToolServer;

/// What the tool server of the tests wants.
const TOKEN: &str = "the-agents-own-token";

/// Far above what anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running container with a town around it.
struct Container {
    folder: TempDir,
    town: TownId,
    rig: RigId,
    repository: Repository,
    tools: ToolServer,
    running: JoinHandle<()>,
}

impl Container {
    async fn new(bead_body: &str) -> Self {
        let lifecycle = Lifecycle::new();
        let tools = ToolServer::with_bead(&lifecycle, "Add a poem", bead_body).await;
        let folder = TempDir::new().unwrap();
        let town = TownId::random();
        let options = ContainerOptions {
            town_id: town,
            socket: folder.path().join("run/c.sock"),
            workspace: folder.path().join("workspace"),
            agent_program: None,
            guard: PathBuf::from(env!("CARGO_BIN_EXE_gastownd")),
            linger: Duration::from_secs(600),
            allowed: AllowedRepositories {
                local: true,
                http: false,
            },
        };
        let (socket, clock) = (options.socket.clone(), Clock::system());
        let running = lifecycle.clone().spawn("the container", async move {
            control_server::run(options, clock, lifecycle)
                .await
                .unwrap();
        });
        let container = Self {
            folder,
            town,
            rig: RigId::random(),
            repository: Repository::new(),
            tools,
            running,
        };
        while UnixStream::connect(&socket).await.is_err() {
            assert!(
                !container.running.is_finished(),
                "the container ended at once"
            );
            tokio::task::yield_now().await;
        }
        container
    }

    fn config(&self) -> Value {
        let url = self.tools.registration().url;
        let base = url.strip_suffix("/mcp/agent").unwrap();
        json!({
            "default_model": "play/one", "agent_server": "rehearsal", "gastown_api_url": base,
            "providers": {"rehearsal": {"pace_ms": 0}}, "env_vars": {"GREETING": "grüß dich"},
            "padding": "x".repeat(150_000),
        })
    }

    fn origin(&self) -> String {
        let origin = self.repository.work().parent().unwrap().join("origin.git");
        origin.to_string_lossy().into_owned()
    }

    fn start_body(&self, agent: AgentId) -> Value {
        json!({
            "agentId": agent.to_string(), "rigId": self.rig.to_string(), "townId": self.town.to_string(),
            "role": "polecat", "name": "Toast", "identity": "toast@town",
            "prompt": "Work on this now: Add a poem", "systemPrompt": "You are a polecat.",
            "gitUrl": self.origin(), "branch": "gastown/toast/1", "defaultBranch": "main",
            "agentToken": TOKEN, "envVars": {},
        })
    }

    async fn connection(&self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = UnixStream::connect(self.folder.path().join("run/c.sock"))
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Lifecycle::new().spawn_detached("test connection", async move {
            let _ = connection.with_upgrades().await;
        });
        sender
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let config = serde_json::to_string(&self.config()).unwrap();
        let header = hyper::header::HeaderValue::from_bytes(config.as_bytes()).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-town-config", header)
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = self.connection().await.send_request(request).await.unwrap();
        read(response).await
    }

    async fn post(&self, path: &str, body: &Value) -> StatusCode {
        self.call("POST", path, &body.to_string()).await.0
    }

    async fn start(&self, agent: AgentId) {
        let (status, body) = self
            .call("POST", "/agents/start", &self.start_body(agent).to_string())
            .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    }

    async fn link(&self, epoch: Option<&str>, after_seq: u64) -> Link {
        let request = Request::builder()
            .uri("/ws")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Version", "13")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = self.connection().await.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        let mut socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
        socket.set_auto_close(false);
        let mut link = Link {
            socket,
            heard: Vec::new(),
        };
        link.say(&json!({"type": "resume", "epoch": epoch, "afterSeq": after_seq}))
            .await;
        link
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// The server's end of the link.
struct Link {
    socket: WebSocket<TokioIo<Upgraded>>,
    heard: Vec<Value>,
}

impl Link {
    async fn say(&mut self, frame: &Value) {
        let payload = Payload::Owned(frame.to_string().into_bytes());
        self.socket.write_frame(Frame::text(payload)).await.unwrap();
    }

    async fn ack(&mut self, seq: u64) {
        self.say(&json!({"type": "ack", "seq": seq})).await;
    }

    async fn next(&mut self) -> Value {
        let frame = tokio::time::timeout(PATIENCE, self.socket.read_frame());
        let frame = match frame.await {
            Ok(frame) => frame.unwrap(),
            Err(_) => panic!("nothing more came; heard: {:?}", self.types()),
        };
        assert_eq!(frame.opcode, OpCode::Text);
        let message: Value = serde_json::from_slice(&frame.payload).unwrap();
        self.heard.push(message.clone());
        message
    }

    async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message["data"].clone();
            }
        }
    }

    fn types(&self) -> Vec<&str> {
        self.heard
            .iter()
            .map(|message| message["type"].as_str().unwrap())
            .collect()
    }

    /// The parts of the messages, to see in a failure what the agent did.
    fn last_parts(&self) -> String {
        let parts = self
            .heard
            .iter()
            .filter(|message| message["type"] == "message.part.updated");
        parts
            .map(|message| message["data"]["part"].to_string() + "\n")
            .collect()
    }

    fn sequences(&self) -> Vec<u64> {
        self.heard
            .iter()
            .map(|message| message["seq"].as_u64().unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_bead_is_worked_on_heard_of_and_merged() {
    let container = Container::new("").await;
    let agent = AgentId::random();
    let mut link = container.link(None, 0).await;
    container.start(agent).await;
    let started = link.hear("agent.started").await;
    assert_eq!(started["branch"], "gastown/toast/1");
    assert_eq!(started["resumed"], false);
    assert_eq!(link.hear("agent.idle").await, json!({}));
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
        workspace: container.folder.path().join("workspace"),
        agent_program: None,
        guard: PathBuf::from(env!("CARGO_BIN_EXE_gastownd")),
        linger: Duration::from_secs(600),
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
