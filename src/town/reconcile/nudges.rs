//! Duty: a nudge that nobody took in time is dropped, and the record says so.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AgentId, Timestamp};
use crate::storage::{NudgeByExpiry, Tree};
use crate::town::refusal::Error;

use super::{Action, Planner, View};

/// A nudge with the end of its time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct Expiring {
    /// Its receiver.
    #[serde(with = "text")]
    pub(in crate::town) agent_id: AgentId,
    #[serde(with = "text")]
    pub(in crate::town) expires_at: Timestamp,
}

/// Only the first is looked at: when it is dropped, the next one is the first.
pub(super) fn observe(tree: &Tree) -> Result<Option<Expiring>, Error> {
    let Some(row) = tree.scan(&NudgeByExpiry::all()).next() else {
        return Ok(None);
    };
    let (key, to) = row?;
    let millis = i64::try_from(key.expires_at).unwrap_or(i64::MAX);
    Ok(Some(Expiring {
        agent_id: to.id,
        expires_at: Timestamp::from_millis(millis),
    }))
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    if let Some(Expiring {
        agent_id,
        expires_at,
    }) = view.expiring
        && planner.is_due(expires_at)
    {
        planner.act(
            Action::DropNudges { agent_id },
            "a nudge's time to live is over",
        );
    }
}
