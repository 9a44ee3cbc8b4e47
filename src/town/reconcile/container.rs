//! Duty: the container runs while something needs it, and sleeps when nothing has for long.
//!
//! What needs it is work that is open: an agent that works, waits for a person or is about to be
//! started, a merge, mail that is to be told. The mayor's session alone, with nobody speaking to
//! it, does not. What a person holds back does not either.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::TownConfig;
use crate::container::protocol::text;
use crate::model::{
    AgentRole, AgentStatus, ContainerLife, ContainerState, ReviewStatus, Timestamp,
};
use crate::storage::{ContainerKey, Tree};
use crate::town::refusal::Error;
use crate::town::settings::TownSettings;

use super::agents::AgentSeen;
use super::merges::ReviewSeen;
use super::{Action, Planner, Told, View};

/// What is known of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct ContainerSeen {
    #[serde(with = "text")]
    pub(in crate::town) state: ContainerState,
    /// When one that failed to start is tried again.
    #[serde(with = "text::option")]
    pub(in crate::town) retry_at: Option<Timestamp>,
    /// Since when nothing needs it.
    #[serde(with = "text::option")]
    pub(in crate::town) idle_since: Option<Timestamp>,
    /// How long it stays so.
    pub(in crate::town) sleep_after: Duration,
    /// Whether the mayor's session is wanted before anybody speaks to it.
    pub(in crate::town) calls_mayor: bool,
}

impl ContainerSeen {
    /// Whether it does what it is asked.
    pub(super) fn is_ready(&self) -> bool {
        self.state == ContainerState::Ready
    }
}

/// `heard`: whether this server has been told yet how the container is. Until then its row may be
/// out of date, and nothing is asked of it.
pub(super) fn observe(
    tree: &Tree,
    heard: bool,
    config: &TownConfig,
    settings: &TownSettings,
) -> Result<ContainerSeen, Error> {
    let life = tree.get(&ContainerKey {})?.unwrap_or_default();
    let ContainerLife {
        state,
        retry_at,
        idle_since,
        calls_mayor,
        ..
    } = life;
    Ok(ContainerSeen {
        state: if heard {
            state
        } else {
            ContainerState::Starting
        },
        retry_at,
        idle_since,
        sleep_after: config.sleep_after().unwrap_or(settings.sleep_after),
        calls_mayor,
    })
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    match view.container.state {
        ContainerState::Asleep => wake(planner),
        ContainerState::Failed => {
            if let Some(retry_at) = view.container.retry_at
                && planner.needs_container.is_some()
                && planner.is_due(retry_at)
            {
                wake(planner);
            }
        }
        // What it comes to is told.
        ContainerState::Starting | ContainerState::Draining => {}
        ContainerState::Ready => rest(view, planner),
    }
}

fn wake(planner: &mut Planner) {
    if let Some(why) = planner.needs_container.take() {
        planner.act(Action::WakeContainer, why);
    }
}

/// Notes whether it is needed, and lets it sleep if it has not been for long.
fn rest(view: &View, planner: &mut Planner) {
    match (open_work(view, planner.now), view.container.idle_since) {
        (Some(why), Some(_)) => planner.act(Action::KeepContainer, why),
        (Some(_), None) => {}
        (None, None) => planner.act(Action::NoteIdleContainer, "nothing needs it any more"),
        (None, Some(since)) => {
            let signs = view
                .agents
                .iter()
                .filter_map(|agent| agent.last_activity_at);
            let since = signs.fold(since, Timestamp::max);
            if planner.is_due(since.after(view.container.sleep_after)) {
                let why = format!("nothing has needed it since {since}");
                planner.act(Action::DrainContainer, why);
            }
        }
    }
}

/// For what the container has to stay, if for anything.
fn open_work(view: &View, now: Timestamp) -> Option<String> {
    let no_budget = view.holds.budget_reached(now).is_some();
    let agent = view.agents.iter().find(|agent| {
        if agent.runs() {
            works(agent, &view.being_told, no_budget)
        } else {
            let is_wanted = agent.hook.is_some() || agent.is_called();
            is_wanted && !no_budget && !view.holds.holds(agent.rig_id)
        }
    });
    if let Some(agent) = agent {
        return Some(format!("agent {} has work", agent.agent_id));
    }
    let is_open = |review: &&ReviewSeen| {
        let waits = review.waits_for_container(view.refinery.needed);
        review.status == ReviewStatus::Running || waits && !view.holds.holds(Some(review.rig_id))
    };
    let review = view.reviews.iter().find(is_open);
    review.map(|review| format!("merge request {} is to be merged", review.entry_id))
}

/// Whether an agent that runs has something to do: all but a mayor whose turn is over.
fn works(agent: &AgentSeen, being_told: &[Told], no_budget: bool) -> bool {
    let agent_id = agent.agent_id;
    let rests = agent.role == AgentRole::Mayor
        && agent.status == AgentStatus::Idle
        && agent.hook.is_none()
        && (!agent.has_mail || no_budget)
        && !being_told.contains(&Told { agent_id });
    !rests
}
