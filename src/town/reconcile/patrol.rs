//! Duty: an agent that should work and shows no life is asked once, and then a person is called.

use crate::model::AgentStatus;

use super::{Action, Planner, View};

pub(super) fn plan(view: &View, planner: &mut Planner) {
    // Whose link is down can't be heard.
    let (Some(up_since), true) = (view.up_since, view.container.is_ready()) else {
        return;
    };
    for agent in &view.agents {
        // One that waits for a person is silent for a reason that is told already.
        let is_asked_of = matches!(agent.status, AgentStatus::Working | AgentStatus::Stalled);
        let (Some(requested_at), Some(_), true) = (agent.requested_at, agent.hook, is_asked_of)
        else {
            continue;
        };
        let silent_since = agent
            .last_activity_at
            .unwrap_or(requested_at)
            .max(requested_at)
            .max(up_since);
        let agent_id = agent.agent_id;
        match agent.checked_at.filter(|at| *at >= silent_since) {
            None => {
                if planner.is_due(silent_since.after(view.patrol_after)) {
                    let why = format!("it has been silent since {silent_since}");
                    planner.act(Action::CheckAgent { agent_id }, why);
                }
            }
            Some(checked_at) => {
                if agent.status == AgentStatus::Working
                    && planner.is_due(checked_at.after(view.patrol_after))
                {
                    let why = format!("it was asked at {checked_at} and is silent still");
                    planner.act(Action::StallAgent { agent_id }, why);
                }
            }
        }
    }
}
