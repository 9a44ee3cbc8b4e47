//! What wants a person: asks of agents, and how often an escalation was raised.

use super::{AgentId, AskId, AskKind, BeadId, Json, Timestamp};

/// An agent asked something and waits for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its id here.
    pub ask_id: AskId,
    /// Who asks.
    pub agent_id: AgentId,
    /// Its id at the agent server, unique for the agent.
    pub server_id: String,
    /// What is wanted.
    pub kind: AskKind,
    /// In one line.
    pub title: String,
    /// The whole ask as the agent server told it; a JSON object.
    pub detail: Json,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// The escalation that it became because nobody answered.
    pub escalation: Option<BeadId>,
    /// The answer that is on its way to the agent server, as the container takes it.
    pub answer: Option<Json>,
    /// When that was given.
    pub answered_at: Option<Timestamp>,
    /// Why the last answer did not get there.
    pub last_error: Option<String>,
}

/// How often people were told of an escalation that nobody has taken up yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The escalation.
    pub bead_id: BeadId,
    /// When it was raised last.
    pub raised_at: Timestamp,
    /// How often it was raised again.
    pub again: u32,
    /// Whether the notification hook is still to hear of it.
    pub notify: bool,
}

/// A token that a person made for a program. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id, by which it is revoked.
    pub token_id: super::TokenId,
    /// What a person calls it.
    pub name: String,
    /// A keyed hash of the token, as text.
    pub hash: String,
    /// Its last characters, to tell it from others.
    pub ending: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
}
