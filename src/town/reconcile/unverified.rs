//! Duty: a container that did not say whether it runs an agent is asked again.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AgentId, Timestamp};

use super::{Action, Planner, View};

/// An agent of which nobody knows whether it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct Unverified {
    #[serde(with = "text")]
    pub(in crate::town) agent_id: AgentId,
    /// Calls that failed.
    pub(in crate::town) attempts: u32,
    /// Not to be asked before this moment.
    #[serde(with = "text")]
    pub(in crate::town) due_at: Timestamp,
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for unverified in &view.unverified {
        planner.work();
        // A container that is gone has been told of, and with it what ran there.
        if view.container.is_ready() && planner.is_due(unverified.due_at) {
            let agent_id = unverified.agent_id;
            planner.act(
                Action::Verify { agent_id },
                "the container did not say whether it runs",
            );
        }
    }
}
