//! The endpoint as an agent server sees it: raw JSON-RPC over HTTP.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{AgentTools, ToolCall, ToolError, handle};
use crate::model::{AgentId, AgentRole, BeadId, BeadStatus, MailType, Priority};

/// Remembers each call and answers with what the test wants.
struct Recorder {
    calls: Mutex<Vec<(AgentId, ToolCall)>>,
    answer: Result<Value, ToolError>,
}

impl AgentTools for Recorder {
    async fn call(&self, agent: AgentId, tool: ToolCall) -> Result<Value, ToolError> {
        self.calls.lock().unwrap().push((agent, tool));
        self.answer.clone()
    }
}

struct Agent {
    tools: Arc<Recorder>,
    agent: AgentId,
    role: AgentRole,
}

struct Answer {
    status: StatusCode,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("a JSON body")
    }

    /// The text of a tool's result, and whether it is an error.
    fn shown(&self) -> (String, bool) {
        let result = &self.json()["result"];
        let text = result["content"][0]["text"].as_str().expect("a text");
        (text.to_owned(), result["isError"] == true)
    }
}

impl Agent {
    fn with_answer(role: AgentRole, answer: Result<Value, ToolError>) -> Self {
        Self {
            tools: Arc::new(Recorder {
                calls: Mutex::default(),
                answer,
            }),
            agent: AgentId::random(),
            role,
        }
    }

    fn new(role: AgentRole) -> Self {
        Self::with_answer(role, Ok(json!({"ok": true})))
    }

    async fn send(&self, method: Method, body: impl Into<String>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/mcp/{}", self.agent))
            .header("host", "gastown.example.org")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.into())))
            .unwrap();
        let response = handle(&self.tools, self.agent, self.role, request).await;
        let status = response.status();
        let Ok(body) = response.into_body().collect().await;
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Answer { status, text }
    }

    async fn request(&self, method: &str, params: Value) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.send(Method::POST, message.to_string()).await
    }

    async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    async fn tool_names(&self) -> Vec<String> {
        let tools = self.request("tools/list", json!({})).await.json();
        let tools = tools["result"]["tools"].as_array().unwrap().clone();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn calls(&self) -> Vec<ToolCall> {
        let calls = self.tools.calls.lock().unwrap();
        assert!(calls.iter().all(|(agent, _)| *agent == self.agent));
        calls.iter().map(|(_, call)| call.clone()).collect()
    }
}

#[tokio::test]
async fn the_handshake() {
    let agent = Agent::new(AgentRole::Polecat);
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "opencode", "version": "1"},
    });
    let answer = agent.request("initialize", hello).await;
    assert_eq!(answer.status, StatusCode::OK);
    let result = &answer.json()["result"];
    assert_eq!(result["protocolVersion"], "2025-11-25");
    assert_eq!(result["serverInfo"]["name"], "gt");
    assert_eq!(result["capabilities"], json!({"tools": {}}));
    assert!(result["instructions"].as_str().unwrap().contains("polecat"));

    let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = agent.send(Method::POST, told.to_string()).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::ACCEPTED, "")
    );
}

#[tokio::test]
async fn an_older_client_gets_its_own_revision_and_a_newer_one_ours() {
    for (asked, answered) in [("2025-03-26", "2025-03-26"), ("2099-01-01", "2025-11-25")] {
        let hello = json!({
            "protocolVersion": asked,
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        });
        let answer = Agent::new(AgentRole::Mayor)
            .request("initialize", hello)
            .await;
        assert_eq!(answer.json()["result"]["protocolVersion"], answered);
    }
}

#[tokio::test]
async fn each_role_has_its_tools() {
    let common = [
        "prime",
        "bead_status",
        "bead_close",
        "mail_send",
        "mail_check",
        "escalate",
        "checkpoint",
    ];
    let mayors = ["sling", "list_rigs", "list_beads", "list_agents"];
    for role in AgentRole::ALL {
        let names = Agent::new(*role).tool_names().await;
        let has = |name: &&str| names.iter().any(|own| own == name);
        assert!(common.iter().all(has), "{role}: {names:?}");
        assert_eq!(mayors.iter().all(has), *role == AgentRole::Mayor);
        assert_eq!(mayors.iter().any(has), *role == AgentRole::Mayor);
        let makes_branches = matches!(role, AgentRole::Polecat | AgentRole::Refinery);
        for tool in ["done", "molecule_current", "molecule_advance"] {
            assert_eq!(has(&tool), makes_branches, "{tool}");
        }
    }
}

#[tokio::test]
async fn schemas_are_complete_enough_for_a_model() {
    let tools = Agent::new(AgentRole::Mayor)
        .request("tools/list", json!({}))
        .await;
    for tool in tools.json()["result"]["tools"].as_array().unwrap() {
        let schema = &tool["inputSchema"];
        assert_eq!(schema["type"], "object", "{tool}");
        assert!(tool["description"].as_str().unwrap().len() > 40, "{tool}");
        let properties = schema["properties"].as_object().unwrap();
        for (name, property) in properties {
            assert!(property["type"].is_string(), "{name} of {tool}");
            assert!(property["description"].is_string(), "{name} of {tool}");
        }
        for name in schema["required"].as_array().unwrap() {
            assert!(properties.contains_key(name.as_str().unwrap()));
        }
    }
}

#[tokio::test]
async fn calls_arrive_parsed() {
    let bead = BeadId::random();
    let text = |text: &str| text.to_owned();
    let cases = [
        ("prime", json!({}), ToolCall::Prime),
        (
            "bead_status",
            json!({"bead_id": bead.to_string()}),
            ToolCall::BeadStatus {
                bead_id: bead,
                status: None,
            },
        ),
        (
            "bead_status",
            json!({"bead_id": format!(" {bead} "), "status": "failed"}),
            ToolCall::BeadStatus {
                bead_id: bead,
                status: Some(BeadStatus::Failed),
            },
        ),
        (
            "bead_close",
            json!({"bead_id": null}),
            ToolCall::BeadClose { bead_id: None },
        ),
        (
            "mail_send",
            json!({"to": "Toast", "subject": "s", "body": "b"}),
            ToolCall::MailSend {
                to: text("Toast"),
                subject: text("s"),
                body: text("b"),
                mail_type: MailType::Message,
            },
        ),
        (
            "mail_send",
            json!({"to": "Toast", "subject": "s", "body": "b", "type": "HANDOFF"}),
            ToolCall::MailSend {
                to: text("Toast"),
                subject: text("s"),
                body: text("b"),
                mail_type: MailType::Handoff,
            },
        ),
        ("mail_check", json!({}), ToolCall::MailCheck),
        (
            "escalate",
            json!({"title": "t", "priority": "critical"}),
            ToolCall::Escalate {
                title: text("t"),
                body: None,
                priority: Some(Priority::Critical),
            },
        ),
        (
            "checkpoint",
            json!({"data": [1, {"a": null}]}),
            ToolCall::Checkpoint {
                data: json!([1, {"a": null}]),
            },
        ),
        (
            "sling",
            json!({"rig": "api", "title": "t", "body": "b", "priority": "low"}),
            ToolCall::Sling {
                rig: text("api"),
                title: text("t"),
                body: Some(text("b")),
                priority: Some(Priority::Low),
            },
        ),
        ("list_rigs", json!({}), ToolCall::ListRigs),
        (
            "list_beads",
            json!({"status": "open"}),
            ToolCall::ListBeads {
                rig: None,
                status: Some(BeadStatus::Open),
            },
        ),
        (
            "list_agents",
            json!({"rig": "api"}),
            ToolCall::ListAgents {
                rig: Some(text("api")),
            },
        ),
    ];
    let mayor = Agent::new(AgentRole::Mayor);
    for (tool, arguments, expected) in cases {
        let answer = mayor.call(tool, arguments).await;
        assert_eq!(answer.shown(), ("{\"ok\":true}".to_owned(), false));
        assert_eq!(mayor.calls().last(), Some(&expected));
    }
    let polecat = Agent::new(AgentRole::Polecat);
    polecat
        .call("done", json!({"branch": "b", "pr_url": "", "summary": "s"}))
        .await;
    let done = ToolCall::Done {
        branch: text("b"),
        pr_url: None,
        summary: Some(text("s")),
    };
    assert_eq!(polecat.calls(), [done]);
    polecat
        .call("molecule_advance", json!({"summary": "s"}))
        .await;
    polecat.call("molecule_current", json!({})).await;
    let advance = ToolCall::MoleculeAdvance { summary: text("s") };
    assert_eq!(polecat.calls()[1..], [advance, ToolCall::MoleculeCurrent]);
}

#[tokio::test]
async fn a_wrong_call_is_explained_and_not_carried_out() {
    let agent = Agent::new(AgentRole::Polecat);
    for (tool, arguments, parts) in [
        (
            "gt_prime",
            json!({}),
            vec!["no tool `gt_prime`", "prime, done"],
        ),
        (
            "sling",
            json!({"rig": "a", "title": "t"}),
            vec!["no tool `sling` for a polecat"],
        ),
        (
            "done",
            json!({}),
            vec!["`branch` is missing", "summary (optional)"],
        ),
        (
            "done",
            json!({"branch": "  "}),
            vec!["`branch` must be text"],
        ),
        ("done", json!({"branch": 7}), vec!["`branch` must be text"]),
        (
            "prime",
            json!({"x": 1}),
            vec!["no argument `x`", "arguments are: none"],
        ),
        (
            "bead_status",
            json!({"bead_id": "7"}),
            vec!["`bead_id` must be a bead's id"],
        ),
        (
            "bead_status",
            json!({"bead_id": "7", "status": "finished"}),
            vec!["`bead_id` must", "`status` must be one of open"],
        ),
        ("checkpoint", json!({}), vec!["`data` is missing"]),
    ] {
        let (text, is_error) = agent.call(tool, arguments).await.shown();
        assert!(is_error, "{tool}: {text}");
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
    assert_eq!(agent.calls(), []);
}

#[tokio::test]
async fn what_the_town_refuses_reaches_the_model() {
    let refused = ToolError::Refused {
        message: "your hook is empty; call `prime`".to_owned(),
    };
    let agent = Agent::with_answer(AgentRole::Polecat, Err(refused));
    let (text, is_error) = agent.call("done", json!({"branch": "b"})).await.shown();
    assert_eq!(
        (text.as_str(), is_error),
        ("your hook is empty; call `prime`", true)
    );

    let busy = ToolError::Unavailable {
        message: "the town is stopping".to_owned(),
    };
    let agent = Agent::with_answer(AgentRole::Polecat, Err(busy));
    let (text, is_error) = agent.call("mail_check", json!({})).await.shown();
    assert!(is_error && text.contains("Nothing was changed"));

    let agent = Agent::with_answer(AgentRole::Polecat, Ok(json!("plain text")));
    let answer = agent.call("prime", json!({})).await;
    assert_eq!(answer.shown(), ("plain text".to_owned(), false));
}

#[tokio::test]
async fn only_single_requests_by_post() {
    let agent = Agent::new(AgentRole::Polecat);
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let answer = agent.send(method, "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    for (body, id, code) in [
        ("", Value::Null, -32700),
        ("{", Value::Null, -32700),
        ("[]", Value::Null, -32600),
        ("7", Value::Null, -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":3}", json!(3), -32600),
    ] {
        let answer = agent.send(Method::POST, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let found = answer.json();
        assert_eq!((&found["id"], &found["error"]["code"]), (&id, &json!(code)));
    }
    // A request of a later revision that would be answered by an endless stream.
    let listen = agent
        .request("subscriptions/listen", json!({"notifications": {}}))
        .await;
    assert_eq!(listen.json()["error"]["code"], -32601);
    let unknown = agent.request("resources/unknown", json!({})).await;
    assert!(unknown.json()["error"]["code"].is_i64());
    assert_eq!(agent.calls(), []);
}
