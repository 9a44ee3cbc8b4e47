//! The typed client of an agent server.

use std::path::Path;

use super::sessions::unfinished;
use super::{Error, EventStream, Sessions};

/// Talks to one agent server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {}

/// A tool server (MCP over streamable HTTP) that an agent server shall offer to its agents.
#[derive(Clone, Debug)]
pub struct McpServer {
    /// Its name: tools appear to agents as `<name>_<tool>`.
    pub name: String,
    /// Its address.
    pub url: String,
    /// The token that the agent server sends as `Authorization: Bearer`.
    pub bearer_token: String,
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

impl Client {
    /// The calls about sessions.
    #[must_use]
    pub const fn session(&self) -> Sessions<'_> {
        Sessions::new(self)
    }

    /// Opens the stream of all events of all directories, from now on.
    pub async fn subscribe(&self) -> Result<EventStream, Error> {
        unfinished()
    }

    /// Registers a tool server for the agents of `directory`. Lost when the agent server restarts.
    pub async fn add_mcp(&self, directory: &Path, server: &McpServer) -> Result<(), Error> {
        let _ = (directory, server);
        unfinished()
    }

    /// Answers a permission ask.
    pub async fn reply_permission(
        &self,
        directory: &Path,
        ask_id: &str,
        reply: PermissionReply,
    ) -> Result<(), Error> {
        let _ = (directory, ask_id, reply);
        unfinished()
    }

    /// Answers a question ask: one list of chosen labels per question.
    pub async fn reply_question(
        &self,
        directory: &Path,
        ask_id: &str,
        answers: &[Vec<String>],
    ) -> Result<(), Error> {
        let _ = (directory, ask_id, answers);
        unfinished()
    }

    /// Turns a question ask down.
    pub async fn reject_question(&self, directory: &Path, ask_id: &str) -> Result<(), Error> {
        let _ = (directory, ask_id);
        unfinished()
    }

    /// Whether the agent server answers at all.
    pub async fn health(&self) -> Result<(), Error> {
        unfinished()
    }
}
