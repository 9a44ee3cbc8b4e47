//! Duty: an agent with work that nothing runs for is started.

use super::{Action, Planner, View};

pub(super) fn plan(view: &View, planner: &mut Planner) {
    let no_budget = view.holds.budget_reached(planner.now).is_some();
    let mut is_probed = false;
    // Agents with a bead first: if one alone may be tried, it is one that work waits for.
    let hooked = view.agents.iter().filter(|agent| agent.hook.is_some());
    let others = view.agents.iter().filter(|agent| agent.hook.is_none());
    for agent in hooked.chain(others) {
        planner.work();
        let why = match (agent.hook, agent.is_called()) {
            (Some(bead_id), _) => format!("bead {bead_id} is on its hook and nothing runs for it"),
            (None, true) if agent.has_mail => {
                "messages wait for the mayor and nothing runs for it".to_owned()
            }
            (None, true) => "the town's first rig brings its mayor".to_owned(),
            (None, false) => continue,
        };
        let is_held = no_budget || view.holds.holds(agent.rig_id);
        if agent.runs() || is_held || !planner.is_due(agent.due_at) {
            continue;
        }
        let agent_id = agent.agent_id;
        let action = match &view.holds.breaker {
            None => Action::Dispatch { agent_id },
            // Too much failed: one at a time shows whether things work again.
            Some(breaker) => {
                if is_probed || breaker.probe.is_some() || !planner.is_due(breaker.probe_at) {
                    continue;
                }
                is_probed = true;
                Action::Probe { agent_id }
            }
        };
        if planner.has_container(view, "work is on a hook") {
            planner.act(action, why);
        }
    }
}
