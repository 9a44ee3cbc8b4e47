//! Duty: what people say to the mayor reaches its session.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AgentId, AgentRole, AgentStatus};

use super::{Action, Planner, View};

/// An agent to whom a message is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::town) struct Told {
    #[serde(with = "text")]
    pub(in crate::town) agent_id: AgentId,
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    // A turn costs money, too.
    if view.holds.budget_reached(planner.now).is_some() {
        return;
    }
    for agent in &view.agents {
        // Not while it starts, and not in the middle of a turn.
        let listens = agent.role == AgentRole::Mayor
            && agent.runs()
            && agent.status == AgentStatus::Idle
            && view.container.is_ready();
        let agent_id = agent.agent_id;
        let is_told = view.being_told.contains(&Told { agent_id });
        // One without messages but with a bead is told nothing and so goes on with it.
        let is_wanted = agent.has_mail || agent.hook.is_some();
        if listens && is_wanted && !is_told && planner.is_due(agent.due_at) {
            planner.act(
                Action::TellMayor { agent_id },
                "messages wait for the mayor, whose turn is over",
            );
        }
    }
}
