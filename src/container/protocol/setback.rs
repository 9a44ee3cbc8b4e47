//! What goes wrong around an agent that goes on all the same.

use serde::{Deserialize, Serialize};

use super::text;
use crate::model::Timestamp;

/// What an agent's setback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetbackCause {
    /// The model is down or limits its rate; the agent server tries it again.
    Model,
    /// The agent server's event stream broke and was opened again.
    Stream,
    /// The agent's turn was over, and nothing had said so.
    Turn,
    /// The agent server had grown and was replaced before the agent began.
    Recycled,
    /// The agent server no longer had the agent's session, and a new one was begun.
    Session,
}

impl SetbackCause {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::Turn => "turn",
            Self::Recycled => "recycled",
            Self::Session => "session",
        }
    }
}

/// Something went wrong around an agent, which goes on all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSetback {
    /// What it is about.
    pub cause: SetbackCause,
    /// What happened, for a person.
    pub reason: String,
    /// When it is tried again, where that is known.
    #[serde(
        default,
        with = "text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub retry_at: Option<Timestamp>,
}
