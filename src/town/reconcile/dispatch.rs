//! Duty: an agent with work that nothing runs for is started.

use super::{Action, Planner, View};

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for agent in &view.agents {
        planner.work();
        let why = match (agent.hook, agent.is_called()) {
            (Some(bead_id), _) => format!("bead {bead_id} is on its hook and nothing runs for it"),
            (None, true) => "messages wait for the mayor and nothing runs for it".to_owned(),
            (None, false) => continue,
        };
        if agent.runs() || view.holds.hold(agent.rig_id) || !planner.is_due(agent.due_at) {
            continue;
        }
        if planner.has_container(view, "work is on a hook") {
            let agent_id = agent.agent_id;
            planner.act(Action::Dispatch { agent_id }, why);
        }
    }
}
