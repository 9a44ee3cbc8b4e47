//! Duty: what deleted agents left in the container goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AgentId, Removal, Timestamp};
use crate::storage::{RemovalKey, Tree};
use crate::town::refusal::Error;

use super::{Action, Planner, View};

/// An answer that did not come within this time is lost; asking again does no harm.
const REMOVAL_TIME_MAX: Duration = Duration::from_secs(120);

/// What the reconciler sees of a deleted agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct RemovalSeen {
    #[serde(with = "text")]
    pub(in crate::town) agent_id: AgentId,
    /// Not to be tried before this moment.
    #[serde(with = "text")]
    pub(in crate::town) due_at: Timestamp,
}

impl RemovalSeen {
    fn of(removal: &Removal) -> Self {
        let lost_at = removal.asked_at.map(|at| at.after(REMOVAL_TIME_MAX));
        Self {
            agent_id: removal.agent_id,
            due_at: lost_at.unwrap_or(removal.due_at),
        }
    }
}

pub(super) fn observe(tree: &Tree) -> Result<Vec<RemovalSeen>, Error> {
    let rows = tree.scan(&RemovalKey::all());
    rows.map(|row| Ok(RemovalSeen::of(&row?.1))).collect()
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for removal in &view.removals {
        let why = "what a deleted agent left is still there";
        if planner.is_due(removal.due_at) && planner.has_container(view, why) {
            let agent_id = removal.agent_id;
            planner.act(Action::RemoveAgent { agent_id }, why);
        }
    }
}
