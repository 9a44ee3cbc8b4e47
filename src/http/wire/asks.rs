//! Asks and tokens on the wire.

use serde::Serialize;
use serde_json::value::RawValue;

use super::nouns::{Text, raw, text, texts};
use crate::model::{AgentId, ApiToken, AskId, BeadId, RigId, Timestamp, TokenId};
use crate::town::AskView;

#[derive(Serialize)]
pub(in crate::http) struct WireAsk {
    id: Text<AskId>,
    agent_id: Text<AgentId>,
    agent_name: String,
    rig_id: Option<Text<RigId>>,
    bead_id: Option<Text<BeadId>>,
    kind: &'static str,
    title: String,
    /// As the agent server told it: `questions` with their `options`, or `permission` and
    /// `patterns`.
    detail: Box<RawValue>,
    escalation_id: Option<Text<BeadId>>,
    created_at: Text<Timestamp>,
    answered_at: Option<Text<Timestamp>>,
    last_error: Option<String>,
}

impl From<AskView> for WireAsk {
    fn from(AskView { ask, agent }: AskView) -> Self {
        Self {
            id: text(ask.ask_id),
            agent_id: text(ask.agent_id),
            agent_name: agent.name,
            rig_id: texts(agent.rig_id),
            bead_id: texts(agent.hook),
            kind: ask.kind.as_str(),
            title: ask.title,
            detail: raw(&ask.detail),
            escalation_id: texts(ask.escalation),
            created_at: text(ask.asked_at),
            answered_at: texts(ask.answered_at),
            last_error: ask.last_error,
        }
    }
}

/// A token as it is listed: never whole.
#[derive(Serialize)]
pub(in crate::http) struct WireToken {
    id: Text<TokenId>,
    name: String,
    token: String,
    created_at: Text<Timestamp>,
    expires_at: Option<Text<Timestamp>>,
}

impl From<ApiToken> for WireToken {
    fn from(row: ApiToken) -> Self {
        Self {
            id: text(row.token_id),
            token: format!("****{}", row.ending),
            name: row.name,
            created_at: text(row.created_at),
            expires_at: texts(row.expires_at),
        }
    }
}

/// A token that was made just now: whole, this once.
#[derive(Serialize)]
pub(in crate::http) struct WireNewToken(WireToken);

impl WireNewToken {
    pub(in crate::http) fn of(row: ApiToken, token: String) -> Self {
        Self(WireToken {
            token,
            ..row.into()
        })
    }
}
