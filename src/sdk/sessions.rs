//! Sessions of an agent server: one conversation in one directory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;

use super::client::{Link, escape, json, parse};
use super::wire::{CreateSession, Model, PromptBody, Session, SessionStatus, TextPart};
use super::{Client, Error};

/// What a session does that does nothing.
const IDLE: &str = "idle";

/// The agent server's own id of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// Takes an id that an agent server gave out.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model, named as agent servers name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The provider's key in the agent server's config. Agents of the Agent Client Protocol name
    /// their models by one text, and know no providers of ours.
    pub provider_id: String,
    /// The model's name at that provider; it may contain slashes.
    pub model_id: String,
}

/// What to ask a session to do.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The user's message.
    pub text: String,
    /// Added to the agent server's own system prompt, for this message.
    pub system: Option<String>,
    /// The model for this message; without it the agent server's default.
    pub model: Option<ModelRef>,
}

/// The calls about sessions.
#[derive(Debug)]
pub struct Sessions<'a> {
    client: &'a Client,
}

impl<'a> Sessions<'a> {
    pub(super) const fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Begins an empty session in `directory`.
    pub async fn create(&self, directory: &Path, title: &str) -> Result<SessionId, Error> {
        if let Link::Acp(acp) = self.client.link() {
            // It makes its own titles.
            return acp.create(directory).await;
        }
        let body = json(&CreateSession { title });
        let answer = self.client.post("/session", directory, Some(body)).await?;
        let session: Session = parse("POST /session", &answer)?;
        Ok(SessionId(session.id))
    }

    /// Goes on with a session of an earlier time; whether the agent server still has it.
    pub async fn resume(&self, directory: &Path, session: &SessionId) -> Result<bool, Error> {
        if let Link::Acp(acp) = self.client.link() {
            return acp.resume(directory, session).await;
        }
        match self.client.get(&session_path(session, ""), directory).await {
            Ok(_) => Ok(true),
            // An id that was never one of its own is a bad request to it.
            Err(Error::Refused {
                status: 400 | 404, ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a message and returns at once; what follows comes as events.
    pub async fn prompt(
        &self,
        directory: &Path,
        session: &SessionId,
        prompt: &Prompt,
    ) -> Result<(), Error> {
        if let Link::Acp(acp) = self.client.link() {
            return acp.prompt(session, prompt);
        }
        let body = json(&PromptBody {
            parts: [TextPart {
                part_type: "text",
                text: &prompt.text,
            }],
            model: prompt.model.as_ref().map(|model| Model {
                provider_id: &model.provider_id,
                model_id: &model.model_id,
            }),
            system: prompt.system.as_deref(),
        });
        let path = session_path(session, "/prompt_async");
        self.client.post(&path, directory, Some(body)).await?;
        Ok(())
    }

    /// Ends what the session is doing. An idle session stays as it is.
    pub async fn abort(&self, directory: &Path, session: &SessionId) -> Result<(), Error> {
        if let Link::Acp(acp) = self.client.link() {
            return acp.abort(session);
        }
        self.client
            .post(&session_path(session, "/abort"), directory, None)
            .await?;
        Ok(())
    }

    /// Whether the session works on something: on an answer, a tool, or a model that it tries again.
    pub async fn is_busy(
        &self,
        directory: &Path,
        session: &SessionId,
        limit: Duration,
    ) -> Result<bool, Error> {
        if let Link::Acp(acp) = self.client.link() {
            return Ok(acp.is_busy(session));
        }
        let path = "/session/status";
        let answer = self.client.get_within(path, directory, limit).await?;
        // Idle sessions are left out.
        let statuses: BTreeMap<String, SessionStatus> = parse("GET /session/status", &answer)?;
        let status = statuses.get(session.as_str());
        Ok(status.is_some_and(|status| status.status_type != IDLE))
    }

    /// All messages of the session, oldest first, as the agent server keeps them. ACP has none to ask for.
    pub async fn messages(
        &self,
        directory: &Path,
        session: &SessionId,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        if let Link::Acp(_) = self.client.link() {
            return Ok(Vec::new());
        }
        let answer = self
            .client
            .get(&session_path(session, "/message"), directory)
            .await?;
        parse("GET /session/{id}/message", &answer)
    }
}

fn session_path(session: &SessionId, rest: &str) -> String {
    format!("/session/{}{rest}", escape(session.as_str()))
}
