//! A tool server (MCP) that plays a town: one polecat with one bead on its hook.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::McpServer;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The token that it wants.
const TOKEN: &str = "the-agents-own-token";

/// A running tool server, and what was asked of it.
pub(crate) struct ToolServer {
    address: SocketAddr,
    town: Arc<Town>,
}

struct Town {
    primed: Value,
    calls: Mutex<Vec<(String, Value)>>,
    count: watch::Sender<usize>,
}

impl ToolServer {
    /// A polecat's town, with this bead on its hook.
    pub(crate) async fn with_bead(lifecycle: &Lifecycle, title: &str, body: &str) -> Self {
        let bead = json!({"bead_id": "b-1", "title": title, "body": body});
        Self::start(
            lifecycle,
            json!({"agent": {"role": "polecat"}, "hooked_bead": bead}),
        )
        .await
    }

    /// A mayor's town.
    pub(crate) async fn with_mayor(lifecycle: &Lifecycle) -> Self {
        Self::start(
            lifecycle,
            json!({"agent": {"role": "mayor"}, "hooked_bead": null}),
        )
        .await
    }

    async fn start(lifecycle: &Lifecycle, primed: Value) -> Self {
        let town = Town {
            primed,
            calls: Mutex::default(),
            count: watch::Sender::new(0),
        };
        let town = Arc::new(town);
        let address = super::loopback::serve(lifecycle, Arc::clone(&town), answer).await;
        Self { address, town }
    }

    /// How an agent server is told of it.
    pub(crate) fn registration(&self) -> McpServer {
        McpServer {
            name: "gt".to_owned(),
            url: format!("http://{}/mcp/agent", self.address),
            bearer_token: TOKEN.to_owned(),
        }
    }

    /// The tools that were called, in order.
    pub(crate) fn called(&self) -> Vec<String> {
        self.town
            .calls
            .lock()
            .unwrap()
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The arguments of the last call of a tool.
    pub(crate) fn arguments(&self, tool: &str) -> Option<Value> {
        let calls = self.town.calls.lock().unwrap();
        calls
            .iter()
            .rfind(|(name, _)| name == tool)
            .map(|(_, arguments)| arguments.clone())
    }
}

async fn answer(town: Arc<Town>, request: Request<Bytes>) -> Response<Full<Bytes>> {
    if request
        .headers()
        .get(AUTHORIZATION)
        .is_none_or(|sent| sent != &format!("Bearer {TOKEN}"))
    {
        return reply(StatusCode::UNAUTHORIZED, &json!({"error": "not you"}));
    }
    if request.method() != Method::POST {
        return reply(
            StatusCode::METHOD_NOT_ALLOWED,
            &json!({"error": "post only"}),
        );
    }
    let message: Value = serde_json::from_slice(request.body()).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "gt", "version": "1"},
        }),
        "tools/list" => json!({"tools": tools()}),
        "tools/call" => town.call(&message["params"]),
        notification if notification.starts_with("notifications/") => {
            return reply(StatusCode::ACCEPTED, &Value::Null);
        }
        method => {
            let error = json!({"code": -32601, "message": format!("no method {method}")});
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            return reply(StatusCode::OK, &answer);
        }
    };
    reply(
        StatusCode::OK,
        &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}),
    )
}

impl Town {
    fn call(&self, params: &Value) -> Value {
        let name = params["name"].as_str().unwrap();
        self.calls
            .lock()
            .unwrap()
            .push((name.to_owned(), params["arguments"].clone()));
        self.count.send_modify(|count| *count += 1);
        let text = match name {
            "prime" => self.primed.to_string(),
            _ => "{\"ok\":true}".to_owned(),
        };
        json!({"content": [{"type": "text", "text": text}], "isError": false})
    }
}

fn tools() -> Value {
    let tool = |name: &str, properties: Value| {
        let schema = json!({"type": "object", "properties": properties});
        json!({"name": name, "description": name, "inputSchema": schema})
    };
    let text = json!({"type": "string"});
    json!([
        tool("prime", json!({})),
        tool("done", json!({"branch": text, "summary": text})),
        tool("escalate", json!({"title": text, "body": text})),
    ])
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .unwrap()
}
