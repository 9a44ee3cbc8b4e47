//! Duty: a branch that needs an approval is put to whoever can give it, and one that must be mended
//! is given to a polecat.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::TownConfig;
use crate::container::protocol::text;
use crate::model::{AgentRole, Approval, BeadId, ReviewStatus, RigId};

use super::{Action, Planner, View};

/// What the town asks of a branch before it is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct RefinerySeen {
    /// Whose approval.
    #[serde(with = "text")]
    pub(in crate::town) needed: Approval,
    /// Whether the refinery agent reviews.
    pub(in crate::town) reviews: bool,
    /// How long all gates of one merge may take.
    pub(in crate::town) gates_time_max: Duration,
}

impl Default for RefinerySeen {
    fn default() -> Self {
        Self {
            needed: Approval::None,
            reviews: false,
            gates_time_max: Duration::ZERO,
        }
    }
}

impl RefinerySeen {
    pub(in crate::town) fn of(config: &TownConfig) -> Self {
        Self {
            needed: config.approval_needed(),
            reviews: !config.refinery.gates.is_empty(),
            gates_time_max: config.gates_time_max(),
        }
    }
}

/// How many branches of a rig must be mended and are on nobody's hook.
pub(super) fn waiting_for_a_polecat(view: &View, rig_id: RigId) -> usize {
    let hooked = hooked(view);
    let waits = view.reviews.iter().filter(|review| {
        review.rig_id == rig_id
            && review.status == ReviewStatus::Rework
            && !hooked.contains(&review.source_bead_id)
    });
    waits.count()
}

fn hooked(view: &View) -> HashSet<BeadId> {
    view.agents.iter().filter_map(|agent| agent.hook).collect()
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    let hooked = hooked(view);
    let refineries = view.agents.iter();
    // The refinery of a rig reviews one branch at a time.
    let mut busy: Vec<RigId> = refineries
        .filter(|agent| agent.role == AgentRole::Refinery && agent.hook.is_some())
        .filter_map(|agent| agent.rig_id)
        .collect();
    let mut waiting = Vec::new();
    for review in &view.reviews {
        let entry_id = review.entry_id;
        match review.status {
            ReviewStatus::Rework
                if !hooked.contains(&review.source_bead_id) && planner.is_due(review.due_at) =>
            {
                planner.act(Action::Rework { entry_id }, "a branch must be mended");
            }
            ReviewStatus::InReview => busy.push(review.rig_id),
            ReviewStatus::Pending if review.found && review.approval < view.refinery.needed => {
                waiting.push(review);
            }
            _ => {}
        }
    }
    waiting.sort_by_key(|review| (Reverse(review.priority), review.seq));
    for review in waiting {
        let (entry_id, rig_id) = (review.entry_id, review.rig_id);
        if view.holds.holds(Some(rig_id)) || !planner.is_due(review.due_at) {
            continue;
        }
        let can_review = view.refinery.reviews && !review.refinery_failed;
        if !can_review || review.approval >= Approval::Refinery {
            planner.act(
                Action::AwaitPerson { entry_id },
                "only a person can approve the branch",
            );
        } else if !busy.contains(&rig_id) {
            planner.act(Action::Review { entry_id }, "first in its rig's queue");
            busy.push(rig_id);
        }
    }
}
