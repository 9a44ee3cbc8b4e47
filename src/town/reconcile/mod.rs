//! What should be done now: a pure function of a view of the town.
//!
//! Each duty is a file: what it looks at is a part of the [`View`], gathered by the duty's own
//! `observe`, and its `plan` says what it wants done. [`reconcile`] reads no clock and no disk, so
//! it can be run dry, recorded and replayed. Whatever it says is applied as ordinary transitions;
//! it never says the same thing twice for the same state, because each action changes what it
//! looks at.
//!
//! To add a duty: a file with `observe` and `plan`, a field of the [`View`], a line in
//! [`View::observe`] and in [`reconcile`], and its actions in [`Action`] (carried out by
//! `actor.rs`). A view must cost what is active and not what exists: scan an index.

mod action;
mod agents;
mod attention;
mod budget;
mod container;
mod convoys;
mod dispatch;
mod holds;
mod leftovers;
mod mayor;
mod merges;
mod nudges;
mod patrol;
mod queue;
mod reviews;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{BeadId, Timestamp};
use crate::storage::Tree;

use super::queries;
use super::refusal::Error;
use super::settings::TownSettings;

pub(super) use action::Action;
pub(super) use agents::AgentSeen;
pub(super) use attention::Attention;
pub(super) use container::ContainerSeen;
pub(super) use convoys::LandingDue;
pub(super) use holds::Holds;
pub(super) use mayor::Told;
pub(super) use merges::ReviewSeen;
pub(super) use nudges::Expiring;
pub(super) use queue::QueueSeen;
pub(super) use reviews::RefinerySeen;

/// What the reconciler looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) container: ContainerSeen,
    /// Agents with something to do or something running, in order of creation.
    pub(super) agents: Vec<AgentSeen>,
    /// Merge requests that are not finished, in order of creation.
    pub(super) reviews: Vec<ReviewSeen>,
    /// What a branch needs before it is merged.
    pub(super) refinery: RefinerySeen,
    /// The nudge that is the next to be worth nothing.
    pub(super) expiring: Option<Expiring>,
    /// Rigs in which slung beads wait.
    pub(super) queues: Vec<QueueSeen>,
    /// Convoys that should have landed; none unless something went wrong.
    pub(super) landings: Vec<LandingDue>,
    /// What may not be started.
    pub(super) holds: Holds,
    /// Agents to whom a message is on its way.
    pub(super) being_told: Vec<Told>,
    /// What waits for people.
    pub(super) attention: Attention,
    /// How often the alarm rings with and without work.
    pub(super) interval_active: Duration,
    pub(super) interval_idle: Duration,
    /// How long an agent may be silent.
    pub(super) patrol_after: Duration,
    /// Since when the container's link is up.
    #[serde(with = "text::option")]
    pub(super) up_since: Option<Timestamp>,
}

/// What the actor knows and the tree does not.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// Whether this server has been told yet how the container is.
    pub(super) heard: bool,
    pub(super) being_told: Vec<Told>,
    /// Escalations for which the notification hook runs or waits.
    pub(super) being_notified: Vec<BeadId>,
    /// How long an ask may wait until it becomes an escalation.
    pub(super) ask_patience: Duration,
    /// Since when the container's link is up.
    pub(super) up_since: Option<Timestamp>,
}

impl View {
    pub(super) fn observe(
        tree: &Tree,
        live: &Live,
        settings: &TownSettings,
    ) -> Result<Self, Error> {
        let config = queries::config(tree)?;
        let container = container::observe(tree, live.heard, &config, settings)?;
        Ok(Self {
            agents: agents::observe(tree, settings, container.calls_mayor)?,
            container,
            reviews: merges::observe(tree)?,
            refinery: RefinerySeen::of(&config),
            expiring: nudges::observe(tree)?,
            queues: queue::observe(tree, &config)?,
            landings: convoys::observe(tree)?,
            holds: holds::observe(tree, &config, settings)?,
            being_told: live.being_told.clone(),
            attention: attention::observe(tree, live)?,
            interval_active: config.alarm_active(),
            interval_idle: config.alarm_idle(),
            patrol_after: settings.patrol_after,
            up_since: live.up_since,
        })
    }
}

/// What to do, and when to look again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) actions: Vec<Planned>,
    #[serde(with = "text")]
    pub(super) due_at: Timestamp,
}

/// An action, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) action: Action,
    /// For people.
    pub(super) why: String,
}

pub(super) fn reconcile(view: &View, now: Timestamp) -> Plan {
    let mut planner = Planner {
        now,
        actions: Vec::new(),
        due_at: None,
        has_work: false,
        needs_container: None,
    };
    budget::plan(view, &mut planner);
    // What is to be mended comes before new work.
    reviews::plan(view, &mut planner);
    queue::plan(view, &mut planner);
    dispatch::plan(view, &mut planner);
    leftovers::plan(view, &mut planner);
    patrol::plan(view, &mut planner);
    mayor::plan(view, &mut planner);
    merges::plan(view, &mut planner);
    nudges::plan(view, &mut planner);
    attention::plan(view, &mut planner);
    convoys::plan(view, &mut planner);
    // Last: what the other duties need is known now.
    container::plan(view, &mut planner);
    planner.finish(view)
}

/// A plan in the making.
struct Planner {
    now: Timestamp,
    actions: Vec<Planned>,
    due_at: Option<Timestamp>,
    has_work: bool,
    /// The first reason for which the container has to run.
    needs_container: Option<String>,
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

    fn act(&mut self, action: Action, why: impl Into<String>) {
        let why = why.into();
        self.actions.push(Planned { action, why });
    }

    /// Something is under way or waits, so the alarm rings often.
    fn work(&mut self) {
        self.has_work = true;
    }

    /// Whether the container runs; if not, it is to be woken because of `why`.
    fn has_container(&mut self, view: &View, why: &str) -> bool {
        if view.container.is_ready() {
            return true;
        }
        self.needs_container.get_or_insert_with(|| why.to_owned());
        false
    }

    fn finish(self, view: &View) -> Plan {
        let interval = if self.has_work {
            view.interval_active
        } else {
            view.interval_idle
        };
        let routine = self.now.after(interval);
        Plan {
            actions: self.actions,
            due_at: self.due_at.map_or(routine, |due| due.min(routine)),
        }
    }
}

#[cfg(test)]
mod tests;
