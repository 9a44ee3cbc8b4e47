//! The calls of the protocol, each limited in time, and sessions made or gone on with.

use std::path::Path;
use std::time::Duration;

use agent_client_protocol::v1::schema::{
    CloseSessionRequest, HttpHeader, LoadSessionRequest, McpServer as AcpServer, McpServerHttp,
    NewSessionRequest, ResumeSessionRequest, SessionConfigOption, SessionId as AcpSession,
};
use agent_client_protocol::{ErrorCode, JsonRpcRequest};

use super::client::Acp;
use super::models::Models;
use super::sessions::{Phase, Session};
use crate::sdk::{Error, McpServer, SessionId};

/// How long a call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long a session may take to be there: the agent starts what it needs for it, connects to the
/// tool servers and reads the history.
const SESSION_LIMIT: Duration = Duration::from_secs(60);

/// How much of an error's details is told.
const DETAILS_CHARS_MAX: usize = 1000;

impl Acp {
    /// Notes a tool server for the sessions of `directory`: it is told with the session.
    pub(in crate::sdk) fn add_mcp(
        &self,
        directory: &Path,
        server: &McpServer,
    ) -> Result<(), Error> {
        if !self.capabilities.mcp_capabilities.http {
            return Err(Error::ToolServer {
                name: server.name.clone(),
                reason: "this agent does not connect to tool servers over HTTP, \
                    as its ACP capabilities say, so it can't be used"
                    .to_owned(),
            });
        }
        let header = HttpHeader::new("Authorization", format!("Bearer {}", server.bearer_token));
        let http =
            McpServerHttp::new(server.name.clone(), server.url.clone()).headers(vec![header]);
        self.shared.change(|state| {
            let tools = state.tools.entry(directory.to_owned()).or_default();
            tools.retain(|known| name_of(known) != Some(&server.name));
            tools.push(AcpServer::Http(http));
        });
        Ok(())
    }

    /// Begins an empty session in `directory`.
    pub(in crate::sdk) async fn create(&self, directory: &Path) -> Result<SessionId, Error> {
        let tools = self.shared.change(|state| state.tools_of(directory));
        let request = NewSessionRequest::new(directory).mcp_servers(tools.clone());
        let answer = self.call("session/new", request, SESSION_LIMIT).await?;
        let id = answer.session_id;
        let mut session = Session::new(&id, directory, tools, Phase::Idle);
        session.models = models(answer.config_options.as_deref());
        self.shared.change(|state| {
            state.sessions.insert(id.clone(), session);
        });
        self.close_others(directory, &id);
        Ok(SessionId::new(&*id.0))
    }

    /// Goes on with a session, if the agent can and still has it.
    pub(in crate::sdk) async fn resume(
        &self,
        directory: &Path,
        session: &SessionId,
    ) -> Result<bool, Error> {
        let id = AcpSession::new(session.as_str());
        let tools = self.shared.change(|state| state.tools_of(directory));
        let known = self.shared.change(|state| {
            let known = state.sessions.get(&id)?;
            // One that does not end its turn would never take a prompt.
            Some((
                known.tools == tools && known.directory == directory,
                known.is_in_turn(),
            ))
        });
        match known {
            Some((_, true)) => return Ok(false),
            Some((true, false)) => return Ok(true),
            _ => {}
        }
        self.shared.change(|state| {
            let session = Session::new(&id, directory, tools.clone(), Phase::Loading);
            state.sessions.insert(id.clone(), session);
        });
        let options = self.load(directory, &id, tools).await;
        let found = matches!(options, Ok(Some(_)));
        self.shared
            .change(|state| match (&options, state.sessions.get_mut(&id)) {
                (Ok(Some(options)), Some(session)) => {
                    session.phase = Phase::Idle;
                    session.models = Models::among(options);
                }
                _ => {
                    state.sessions.remove(&id);
                }
            });
        if found {
            self.close_others(directory, &id);
        }
        match options {
            Ok(_) => Ok(found),
            // What the agent says of a session that it does not have differs from agent to agent.
            Err(Error::Agent { call, code, text })
                if code != i32::from(ErrorCode::AUTH_REQUIRED) =>
            {
                tracing::info!(session = %id.0, "begun afresh: {call}: {text}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the agent open a session again; its options, or `None` if the agent can't.
    async fn load(
        &self,
        directory: &Path,
        id: &AcpSession,
        tools: Vec<AcpServer>,
    ) -> Result<Option<Vec<SessionConfigOption>>, Error> {
        let options = if self.capabilities.session_capabilities.resume.is_some() {
            let request = ResumeSessionRequest::new(id.clone(), directory).mcp_servers(tools);
            let answer = self.call("session/resume", request, SESSION_LIMIT).await?;
            answer.config_options
        } else if self.capabilities.load_session {
            let request = LoadSessionRequest::new(id.clone(), directory).mcp_servers(tools);
            let answer = self.call("session/load", request, SESSION_LIMIT).await?;
            answer.config_options
        } else {
            return Ok(None);
        };
        Ok(Some(options.unwrap_or_default()))
    }

    /// Lets go of the sessions that were before in this directory, and of what the agent holds for them.
    fn close_others(&self, directory: &Path, kept: &AcpSession) {
        let others = self
            .shared
            .change(|state| state.forget_others(directory, kept));
        if self.capabilities.session_capabilities.close.is_none() {
            return;
        }
        for id in others {
            // Nothing depends on it: what it holds is gone with the program at the latest.
            self.connection
                .send_request(CloseSessionRequest::new(id))
                .detach();
        }
    }

    /// Makes a call and waits for its answer.
    pub(super) async fn call<R: JsonRpcRequest>(
        &self,
        call: &'static str,
        request: R,
        limit: Duration,
    ) -> Result<R::Response, Error> {
        let answer = self.connection.send_request(request).block_task();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(call, &error)),
            Err(_) => Err(Error::TimedOut {
                call: call.to_owned(),
                limit,
            }),
        }
    }

    /// Why a call failed: because the agent is gone, or because it says so.
    pub(super) fn failure(&self, call: &str, error: &agent_client_protocol::Error) -> Error {
        match self.shared.closed() {
            Some(reason) => Error::Unreachable {
                call: call.to_owned(),
                source: std::io::Error::other(reason),
            },
            None => Error::Agent {
                call: call.to_owned(),
                code: i32::from(error.code),
                text: explained(error),
            },
        }
    }
}

/// An agent's error as text: its message and what it adds to that.
pub(super) fn explained(error: &agent_client_protocol::Error) -> String {
    let mut text = error.message.clone();
    if let Some(details) = error.data.as_ref().filter(|details| !details.is_null()) {
        let details = match details.as_str() {
            Some(details) => details.to_owned(),
            None => details.to_string(),
        };
        text.push_str(": ");
        text.extend(details.chars().take(DETAILS_CHARS_MAX));
    }
    if error.code == ErrorCode::AUTH_REQUIRED {
        text.push_str("; give it its key in the town's env_vars");
    }
    text
}

fn models(options: Option<&[SessionConfigOption]>) -> Option<Models> {
    Models::among(options?)
}

fn name_of(server: &AcpServer) -> Option<&String> {
    match server {
        AcpServer::Http(server) => Some(&server.name),
        _ => None,
    }
}
