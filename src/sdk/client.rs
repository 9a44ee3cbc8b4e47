//! The typed client of an agent server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::acp::Acp;
use super::connection::{Call, Connections};
use super::wire::{AddMcp, McpStatus, PermissionAnswer, QuestionAnswers, RemoteMcp};
use super::{AgentServerKind, Error, EventStream, Sessions};

/// How long a call may take. The first one in a new directory takes 2-3 s, under load several times
/// as much.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long the agent server may take to connect to a tool server; its own limit is [`MCP_TIMEOUT`].
const ADD_MCP_LIMIT: Duration = Duration::from_secs(40);

/// How long the agent server waits for an answer of a tool server. A tool call that commits to disk
/// on a busy machine takes a second or two.
const MCP_TIMEOUT: Duration = Duration::from_secs(30);

/// What the agent server calls a tool server that it can use.
const MCP_CONNECTED: &str = "connected";

/// Talks to one agent server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    link: Link,
}

/// The two protocols that there are.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// opencode's, over HTTP: its events are passed on as they come.
    Http(Connections),
    /// The Agent Client Protocol, over the program's standard streams.
    Acp(Acp),
}

/// A tool server (MCP over streamable HTTP) that an agent server shall offer to its agents.
#[derive(Clone)]
pub struct McpServer {
    /// Its name: tools appear to agents as `<name>_<tool>`.
    pub name: String,
    /// Its address.
    pub url: String,
    /// The token that the agent server sends as `Authorization: Bearer`.
    pub bearer_token: String,
}

impl std::fmt::Debug for McpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer to a permission ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionReply {
    /// Allow it this time.
    Once,
    /// Allow it from now on.
    Always,
    /// Do not allow it.
    Reject,
}

impl PermissionReply {
    /// The word of the protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Always => "always",
            Self::Reject => "reject",
        }
    }
}

impl Client {
    pub(super) const fn new(link: Link) -> Self {
        Self { link }
    }

    pub(super) const fn link(&self) -> &Link {
        &self.link
    }

    /// The connections, for what only opencode's protocol has.
    fn http(&self, call: &str) -> Result<&Connections, Error> {
        match &self.link {
            Link::Http(connections) => Ok(connections),
            Link::Acp(_) => Err(Error::NotOffered {
                call: call.to_owned(),
                kind: AgentServerKind::Acp,
            }),
        }
    }

    /// The calls about sessions.
    #[must_use]
    pub const fn session(&self) -> Sessions<'_> {
        Sessions::new(self)
    }

    /// Opens the stream of all events of all directories, from now on. Nothing is told again, so
    /// subscribe before the first prompt.
    pub async fn subscribe(&self) -> Result<EventStream, Error> {
        let connections = match &self.link {
            Link::Http(connections) => connections,
            Link::Acp(acp) => return acp.subscribe().map(EventStream::of_acp),
        };
        let call = Call {
            method: Method::GET,
            target: "/global/event".to_owned(),
            body: None,
            limit: CALL_LIMIT,
        };
        connections.open(call).await.map(EventStream::of_http)
    }

    /// Registers a tool server for the sessions of `directory` that begin or go on from now, and waits
    /// until the agent server has connected to it, if it says so. Lost when the agent server restarts.
    pub async fn add_mcp(&self, directory: &Path, server: &McpServer) -> Result<(), Error> {
        let connections = match &self.link {
            Link::Http(connections) => connections,
            Link::Acp(acp) => return acp.add_mcp(directory, server),
        };
        let body = AddMcp {
            name: &server.name,
            config: RemoteMcp {
                config_type: "remote",
                url: &server.url,
                headers: BTreeMap::from([(
                    "Authorization",
                    format!("Bearer {}", server.bearer_token),
                )]),
                oauth: false,
                enabled: true,
                timeout: u64::try_from(MCP_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            },
        };
        let call = Call {
            method: Method::POST,
            target: in_directory("/mcp", directory),
            body: Some(json(&body)),
            limit: ADD_MCP_LIMIT,
        };
        let answer = connections.call(call).await?;
        let mut states: BTreeMap<String, McpStatus> = parse("POST /mcp", &answer)?;
        let failed = |reason: String| Error::ToolServer {
            name: server.name.clone(),
            reason,
        };
        match states.remove(&server.name) {
            Some(state) if state.status == MCP_CONNECTED => Ok(()),
            Some(McpStatus {
                error: Some(error), ..
            }) => Err(failed(error)),
            Some(McpStatus {
                status,
                error: None,
            }) => Err(failed(status)),
            None => Err(failed("it is not among the registered ones".to_owned())),
        }
    }

    /// Answers a permission ask.
    pub async fn reply_permission(
        &self,
        directory: &Path,
        ask_id: &str,
        reply: PermissionReply,
    ) -> Result<(), Error> {
        if let Link::Acp(acp) = &self.link {
            return acp.reply_permission(ask_id, reply);
        }
        let path = format!("/permission/{}/reply", escape(ask_id));
        let body = PermissionAnswer {
            reply: reply.as_str(),
        };
        self.post(&path, directory, Some(json(&body))).await?;
        Ok(())
    }

    /// Answers a question ask: one list of chosen labels per question.
    pub async fn reply_question(
        &self,
        directory: &Path,
        ask_id: &str,
        answers: &[Vec<String>],
    ) -> Result<(), Error> {
        let path = format!("/question/{}/reply", escape(ask_id));
        self.post(&path, directory, Some(json(&QuestionAnswers { answers })))
            .await?;
        Ok(())
    }

    /// Turns a question ask down.
    pub async fn reject_question(&self, directory: &Path, ask_id: &str) -> Result<(), Error> {
        let path = format!("/question/{}/reject", escape(ask_id));
        self.post(&path, directory, None).await?;
        Ok(())
    }

    /// Tells Kilo, which waits for that after `session.network.asked`, to try its model again.
    pub async fn retry_network(&self, directory: &Path, ask_id: &str) -> Result<(), Error> {
        let path = format!("/network/{}/reply", escape(ask_id));
        self.post(&path, directory, None).await?;
        Ok(())
    }

    /// Whether the agent server answers at all.
    pub async fn health(&self) -> Result<(), Error> {
        self.answers_within(CALL_LIMIT).await
    }

    /// Whether the agent server answers at all within `limit`.
    pub async fn answers_within(&self, limit: Duration) -> Result<(), Error> {
        let connections = match &self.link {
            Link::Http(connections) => connections,
            Link::Acp(acp) => return acp.health(),
        };
        let call = Call {
            method: Method::GET,
            target: "/global/health".to_owned(),
            body: None,
            limit,
        };
        connections.call(call).await?;
        Ok(())
    }

    pub(super) async fn get(&self, path: &str, directory: &Path) -> Result<Bytes, Error> {
        self.get_within(path, directory, CALL_LIMIT).await
    }

    pub(super) async fn get_within(
        &self,
        path: &str,
        directory: &Path,
        limit: Duration,
    ) -> Result<Bytes, Error> {
        let call = Call {
            method: Method::GET,
            target: in_directory(path, directory),
            body: None,
            limit,
        };
        self.http(path)?.call(call).await
    }

    pub(super) async fn post(
        &self,
        path: &str,
        directory: &Path,
        body: Option<Bytes>,
    ) -> Result<Bytes, Error> {
        let target = in_directory(path, directory);
        let call = Call {
            method: Method::POST,
            target,
            body,
            limit: CALL_LIMIT,
        };
        self.http(path)?.call(call).await
    }
}

/// A request's body.
pub(super) fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .expect("request bodies are plain structs of text")
        .into()
}

/// An answer's body; `call` names it in the error.
pub(super) fn parse<T: DeserializeOwned>(call: &str, answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| Error::BadAnswer {
        call: call.to_owned(),
        reason: error.to_string(),
    })
}

fn in_directory(path: &str, directory: &Path) -> String {
    format!(
        "{path}?directory={}",
        escape_bytes(directory.as_os_str().as_encoded_bytes())
    )
}

/// Escapes one segment of a path.
pub(super) fn escape(text: &str) -> String {
    escape_bytes(text.as_bytes())
}

fn escape_bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_escaped_whole() {
        let path = Path::new("/srv/a town/é&x=1");
        assert_eq!(
            in_directory("/mcp", path),
            "/mcp?directory=%2Fsrv%2Fa%20town%2F%C3%A9%26x%3D1"
        );
    }

    #[test]
    fn a_token_is_not_shown() {
        let server = McpServer {
            name: "gt".to_owned(),
            url: "http://127.0.0.1:1/mcp".to_owned(),
            bearer_token: "very-secret".to_owned(),
        };
        assert!(!format!("{server:?}").contains("very-secret"));
    }
}
