//! Duty: what still runs for work that was taken away is stopped. It was asked to stop then; this
//! asks again where the call failed or was lost, so that nothing runs for nobody.

use crate::model::AgentRole;

use super::{Action, Planner, View};

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for agent in &view.agents {
        let is_wanted = agent.hook.is_some() && agent.hook == agent.runs_for;
        if agent.role == AgentRole::Mayor || !agent.runs() || is_wanted {
            continue;
        }
        planner.work();
        if view.container.is_ready() && planner.is_due(agent.due_at) {
            let agent_id = agent.agent_id;
            planner.act(
                Action::StopLeftover { agent_id },
                "what runs for it is not for the bead on its hook",
            );
        }
    }
}
