//! The rehearsal as a client of a tool server: MCP over streamable HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use serde_json::{Value, json};

use crate::lifecycle::Lifecycle;
use crate::sdk::connection::{Call, Connections};

/// The protocol version that opencode speaks.
const PROTOCOL_VERSION: &str = "2025-11-25";

/// How long one call may take, as for the real agent servers.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A tool server that has answered once; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct ToolServer {
    connections: Connections,
    target: String,
    tools: BTreeSet<String>,
    next_id: Arc<AtomicU64>,
}

impl ToolServer {
    /// Says hello to the tool server at `url` and asks for its tools.
    pub(super) async fn connect(
        url: &str,
        authorization: &str,
        lifecycle: &Lifecycle,
    ) -> Result<Self, String> {
        let address: Uri = url.parse().map_err(|_| format!("{url:?} is no address"))?;
        let authority = match (address.authority(), address.port()) {
            (Some(authority), Some(_)) => authority.to_string(),
            (Some(authority), None) => format!("{authority}:80"),
            (None, _) => return Err(format!("{url:?} names no server")),
        };
        let target = address
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        let mut server = Self {
            connections: Connections::new(authority, authorization.to_owned(), lifecycle),
            target,
            tools: BTreeSet::new(),
            next_id: Arc::new(AtomicU64::new(1)),
        };
        let hello = json!({
            "protocolVersion": PROTOCOL_VERSION, "capabilities": {},
            "clientInfo": {"name": "rehearsal", "version": env!("CARGO_PKG_VERSION")},
        });
        server.request("initialize", hello).await?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        server.send(&initialized).await?;
        let listed = server.request("tools/list", json!({})).await?;
        server.tools = listed["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tool| tool["name"].as_str().map(ToOwned::to_owned))
            .collect();
        Ok(server)
    }

    pub(super) fn has(&self, tool: &str) -> bool {
        self.tools.contains(tool)
    }

    /// Calls a tool: the text of its result, as `Err` if the tool says that it failed.
    pub(super) async fn call(&self, tool: &str, input: &Value) -> Result<String, String> {
        let parameters = json!({"name": tool, "arguments": input});
        let result = self.request("tools/call", parameters).await?;
        let texts = result["content"].as_array().into_iter().flatten();
        let text: Vec<_> = texts
            .filter_map(|content| content["text"].as_str())
            .collect();
        let text = text.join("\n");
        if result["isError"] == true {
            Err(text)
        } else {
            Ok(text)
        }
    }

    async fn request(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters});
        let answer = self.send(&request).await?;
        let mut answer =
            rpc_message(&answer).ok_or_else(|| format!("{method}: the answer makes no sense"))?;
        if let Some(error) = answer["error"]["message"].as_str() {
            return Err(format!("{method}: {error}"));
        }
        Ok(answer["result"].take())
    }

    async fn send(&self, message: &Value) -> Result<Bytes, String> {
        let call = Call {
            method: Method::POST,
            target: self.target.clone(),
            body: Some(message.to_string().into()),
            limit: CALL_LIMIT,
        };
        self.connections
            .call(call)
            .await
            .map_err(|error| match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })
    }
}

/// The message in an answer: plain JSON, or the one event of a stream.
fn rpc_message(answer: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(answer).ok()?;
    if let Ok(message) = serde_json::from_str(text) {
        return Some(message);
    }
    text.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data).ok())
        .find(|message: &Value| message.get("id").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_or_a_stream() {
        let expected = json!({"id": 1, "result": {}});
        assert_eq!(
            rpc_message(br#"{"id":1,"result":{}}"#),
            Some(expected.clone())
        );
        let stream = b"id: 0\n\ndata: \n\nevent: message\ndata: {\"id\":1,\"result\":{}}\n\n";
        assert_eq!(rpc_message(stream), Some(expected));
        assert_eq!(rpc_message(b"no"), None);
    }
}
