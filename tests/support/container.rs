//! A container's control server with a town around it, spoken to over its real socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use gastownd::clock::Clock;
use gastownd::container::Limits;
use gastownd::container::control_server::{self, ContainerOptions};
use gastownd::container::git::AllowedRepositories;
use gastownd::lifecycle::Lifecycle;
use gastownd::model::{AgentId, RigId, TownId};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::repository::Repository;
use super::tool_server::ToolServer;

/// What the tool server of the tests wants.
pub(crate) const TOKEN: &str = "the-agents-own-token";

/// Far above what anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running container with a town around it.
pub(crate) struct Container {
    pub(crate) folder: TempDir,
    pub(crate) town: TownId,
    pub(crate) rig: RigId,
    pub(crate) repository: Repository,
    pub(crate) tools: ToolServer,
    pub(crate) running: JoinHandle<()>,
}

/// More than any test uses.
pub(crate) const LIMITS: Limits = Limits {
    memory_max: 1 << 40,
    processes_max: 100_000,
    open_files_max: 65_536,
    recycle_above: 1 << 40,
    hung_after: Duration::from_secs(600),
    model_wait: Duration::from_secs(2),
};

impl Container {
    pub(crate) async fn new(bead_body: &str) -> Self {
        let lifecycle = Lifecycle::new();
        let tools = ToolServer::with_bead(&lifecycle, "Add a poem", bead_body).await;
        let folder = TempDir::new().unwrap();
        let town = TownId::random();
        let options = ContainerOptions {
            town_id: town,
            socket: folder.path().join("run/c.sock"),
            tcp: None,
            workspace: folder.path().join("workspace"),
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

    pub(crate) fn config(&self) -> Value {
        let url = self.tools.registration().url;
        let base = url.strip_suffix("/mcp/agent").unwrap();
        json!({
            "default_model": "play/one", "agent_server": "rehearsal", "gastown_api_url": base,
            "providers": {"rehearsal": {"pace_ms": 0}}, "env_vars": {"GREETING": "grüß dich"},
            "padding": "x".repeat(150_000),
        })
    }

    pub(crate) fn origin(&self) -> String {
        let origin = self.repository.work().parent().unwrap().join("origin.git");
        origin.to_string_lossy().into_owned()
    }

    pub(crate) fn start_body(&self, agent: AgentId) -> Value {
        json!({
            "agentId": agent.to_string(), "rigId": self.rig.to_string(), "townId": self.town.to_string(),
            "role": "polecat", "name": "Toast", "identity": "toast@town",
            "prompt": "Work on this now: Add a poem", "systemPrompt": "You are a polecat.",
            "gitUrl": self.origin(), "branch": "gastown/toast/1", "defaultBranch": "main",
            "agentToken": TOKEN, "envVars": {},
        })
    }

    pub(crate) async fn connection(&self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
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

    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
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

    pub(crate) async fn post(&self, path: &str, body: &Value) -> StatusCode {
        self.call("POST", path, &body.to_string()).await.0
    }

    pub(crate) async fn start(&self, agent: AgentId) {
        let (status, body) = self
            .call("POST", "/agents/start", &self.start_body(agent).to_string())
            .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    }

    pub(crate) async fn link(&self, epoch: Option<&str>, after_seq: u64) -> Link {
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

pub(crate) async fn read(response: Response<hyper::body::Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// The server's end of the link.
pub(crate) struct Link {
    pub(crate) socket: WebSocket<TokioIo<Upgraded>>,
    pub(crate) heard: Vec<Value>,
}

impl Link {
    pub(crate) async fn say(&mut self, frame: &Value) {
        let payload = Payload::Owned(frame.to_string().into_bytes());
        self.socket.write_frame(Frame::text(payload)).await.unwrap();
    }

    pub(crate) async fn ack(&mut self, seq: u64) {
        self.say(&json!({"type": "ack", "seq": seq})).await;
    }

    pub(crate) async fn next(&mut self) -> Value {
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

    pub(crate) async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message["data"].clone();
            }
        }
    }

    pub(crate) fn types(&self) -> Vec<&str> {
        self.heard
            .iter()
            .map(|message| message["type"].as_str().unwrap())
            .collect()
    }

    /// The parts of the messages, to see in a failure what the agent did.
    pub(crate) fn last_parts(&self) -> String {
        let parts = self
            .heard
            .iter()
            .filter(|message| message["type"] == "message.part.updated");
        parts
            .map(|message| message["data"]["part"].to_string() + "\n")
            .collect()
    }

    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.heard
            .iter()
            .map(|message| message["seq"].as_u64().unwrap())
            .collect()
    }
}
