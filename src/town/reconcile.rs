//! What should be done now: a pure function of a view of the town.
//!
//! The function reads no clock and no disk, so it can be run dry and replayed. Whatever it says is
//! applied as ordinary transitions; it never says the same thing twice for the same state, because
//! each action changes what it looks at.

mod attention;

use std::time::Duration;

use crate::container::LinkState;
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, AskId, BeadId, Priority, Review, ReviewStatus, RigId,
    Timestamp,
};

pub(super) use attention::Attention;

/// A merge that has not ended after this long goes back to the queue.
const MERGE_STUCK_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the reconciler looks at.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) container: Container,
    /// Agents with something to do or something running, in order of creation.
    pub(super) agents: Vec<Agent>,
    /// Merge requests that wait or run, each with its priority, in order of creation.
    pub(super) reviews: Vec<(Review, Priority)>,
    /// Rigs that are held.
    pub(super) paused: Vec<RigId>,
    /// The mayor, if people's messages wait for it.
    pub(super) mayor_mail: Option<AgentId>,
    /// Agents to whom a message is on its way.
    pub(super) being_told: Vec<AgentId>,
    /// What waits for people.
    pub(super) attention: Attention,
    /// How often the alarm rings with and without work.
    pub(super) interval_active: Duration,
    pub(super) interval_idle: Duration,
}

/// What is known of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Asleep,
    Waking,
    Up,
}

impl Container {
    pub(super) fn of(state: &LinkState) -> Self {
        match state {
            LinkState::Up { .. } => Self::Up,
            LinkState::Down { .. } | LinkState::StartFailed { .. } => Self::Asleep,
        }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The container is needed.
    WakeContainer,
    /// Start an agent that has work.
    Dispatch(AgentId),
    /// Hand people's messages to the mayor's session.
    TellMayor(AgentId),
    /// Merge a branch.
    Merge(BeadId),
    /// Put a merge that seems lost back into the queue.
    RequeueStuck(BeadId),
    /// Call people, for nobody answers an ask.
    EscalateAsk(AskId),
    /// Raise an escalation again that nobody takes up.
    RaiseAgain(BeadId),
    /// Run the notification hook for an escalation.
    Notify(BeadId),
}

/// What to do, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) due_at: Timestamp,
}

pub(super) fn reconcile(view: &View, now: Timestamp) -> Plan {
    let mut plan = Planner {
        now,
        actions: Vec::new(),
        due_at: None,
        needs_container: false,
    };
    for agent in &view.agents {
        plan.agent(view, agent);
    }
    plan.merges(view);
    plan.attention(view);
    if plan.needs_container && view.container == Container::Asleep {
        plan.actions.push(Action::WakeContainer);
    }
    let has_work = !view.agents.is_empty() || !view.reviews.is_empty();
    let interval = if has_work {
        view.interval_active
    } else {
        view.interval_idle
    };
    let routine = now.after(interval);
    Plan {
        actions: plan.actions,
        due_at: plan.due_at.map_or(routine, |due| due.min(routine)),
    }
}

struct Planner {
    now: Timestamp,
    actions: Vec<Action>,
    due_at: Option<Timestamp>,
    needs_container: bool,
}

impl Planner {
    /// Whether `moment` has come; if not, the alarm is to ring then.
    fn is_due(&mut self, moment: Timestamp) -> bool {
        if moment <= self.now {
            return true;
        }
        self.due_at = Some(self.due_at.map_or(moment, |due| due.min(moment)));
        false
    }

    fn agent(&mut self, view: &View, agent: &Agent) {
        let runs = agent.dispatch.requested_at.is_some();
        let has_mail = view.mayor_mail == Some(agent.agent_id);
        let held = agent
            .rig_id
            .is_some_and(|rig_id| view.paused.contains(&rig_id));
        let has_work = agent.hook.is_some() || has_mail;
        if !has_work || held {
            return;
        }
        if !runs {
            if self.is_due(agent.dispatch.due_at) {
                self.needs_container = true;
                if view.container == Container::Up {
                    self.actions.push(Action::Dispatch(agent.agent_id));
                }
            }
        } else if agent.role == AgentRole::Mayor
            // Not while it starts, and not in the middle of a turn.
            && agent.status == AgentStatus::Idle
            && view.container == Container::Up
            && !view.being_told.contains(&agent.agent_id)
            && self.is_due(agent.dispatch.due_at)
        {
            self.actions.push(Action::TellMayor(agent.agent_id));
        }
    }

    /// One running merge per rig; within a rig by priority, then by age.
    fn merges(&mut self, view: &View) {
        let mut busy: Vec<RigId> = Vec::new();
        for (review, _) in &view.reviews {
            if review.status != ReviewStatus::Running {
                continue;
            }
            let stuck_at = review
                .started_at
                .unwrap_or(self.now)
                .after(MERGE_STUCK_AFTER);
            if view.container == Container::Up && self.is_due(stuck_at) {
                self.actions.push(Action::RequeueStuck(review.entry_id));
            }
            busy.push(review.rig_id);
        }
        let mut waiting: Vec<_> = view
            .reviews
            .iter()
            .filter(|(review, _)| review.status == ReviewStatus::Pending)
            .collect();
        waiting.sort_by_key(|(review, priority)| (std::cmp::Reverse(*priority), review.seq));
        for (review, _) in waiting {
            if busy.contains(&review.rig_id) || view.paused.contains(&review.rig_id) {
                continue;
            }
            if !self.is_due(review.due_at) {
                continue;
            }
            self.needs_container = true;
            if view.container == Container::Up {
                self.actions.push(Action::Merge(review.entry_id));
                busy.push(review.rig_id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
