//! Duty: branches in the review queue that have every approval they need are merged, one per rig at
//! a time, and a merge that seems lost goes back to the queue.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{Approval, BeadId, Priority, Review, ReviewStatus, RigId, Timestamp};
use crate::storage::{BeadKey, ReviewByStatus, ReviewKey, Tree};
use crate::town::refusal::Error;
use crate::town::reviews;

use super::{Action, Planner, View};

/// A merge that has not ended after this long, besides the time that its gates may take, goes back
/// to the queue.
const MERGE_STUCK_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the reconciler sees of a merge request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct ReviewSeen {
    #[serde(with = "text")]
    pub(in crate::town) entry_id: BeadId,
    pub(in crate::town) seq: u64,
    #[serde(with = "text")]
    pub(in crate::town) rig_id: RigId,
    #[serde(with = "text")]
    pub(in crate::town) status: ReviewStatus,
    #[serde(with = "text")]
    pub(in crate::town) priority: Priority,
    /// Not to be tried before this moment.
    #[serde(with = "text")]
    pub(in crate::town) due_at: Timestamp,
    /// When the running merge was asked for.
    #[serde(with = "text::option")]
    pub(in crate::town) started_at: Option<Timestamp>,
    /// The work that the branch holds.
    #[serde(with = "text")]
    pub(in crate::town) source_bead_id: BeadId,
    #[serde(with = "text")]
    pub(in crate::town) approval: Approval,
    /// Whether only a person can still come to a verdict.
    pub(in crate::town) refinery_failed: bool,
    /// Whether the commit that is to be approved is known.
    #[serde(default = "was_not_asked")]
    pub(in crate::town) found: bool,
}

/// Looks that an older release recorded did not ask for the commit.
const fn was_not_asked() -> bool {
    true
}

impl ReviewSeen {
    pub(in crate::town) fn of(review: &Review, priority: Priority) -> Self {
        Self {
            entry_id: review.entry_id,
            seq: review.seq,
            rig_id: review.rig_id,
            status: review.status,
            priority,
            due_at: review.due_at,
            started_at: review.started_at,
            source_bead_id: review.source_bead_id,
            approval: review.approval,
            refinery_failed: review.refinery_failed,
            found: review.head_sha.is_some(),
        }
    }

    /// Whether the container has to merge the branch, or to look at it.
    pub(super) fn waits_for_container(&self, needed: Approval) -> bool {
        reviews::waits_for_container(self.status, self.approval >= needed, self.found)
    }
}

pub(super) fn observe(tree: &Tree) -> Result<Vec<ReviewSeen>, Error> {
    let mut seen = Vec::new();
    for status in ReviewStatus::UNFINISHED {
        for row in tree.scan(&ReviewByStatus::of_status(*status)) {
            let (_, entry) = row?;
            let review = tree.get(&ReviewKey { entry_id: entry.id })?;
            let bead = tree.get(&BeadKey { bead_id: entry.id })?;
            seen.extend(
                review
                    .zip(bead)
                    .map(|(review, bead)| ReviewSeen::of(&review, bead.priority)),
            );
        }
    }
    seen.sort_by_key(|review| review.seq);
    Ok(seen)
}

/// One running merge per rig; within a rig by priority, then by age.
pub(super) fn plan(view: &View, planner: &mut Planner) {
    let stuck_after = MERGE_STUCK_AFTER + view.refinery.gates_time_max;
    let mut busy: Vec<RigId> = Vec::new();
    for review in &view.reviews {
        if review.status != ReviewStatus::Waiting {
            planner.work();
        }
        if review.status != ReviewStatus::Running {
            continue;
        }
        busy.push(review.rig_id);
        let started_at = review.started_at.unwrap_or(planner.now);
        if view.container.is_ready() && planner.is_due(started_at.after(stuck_after)) {
            let entry_id = review.entry_id;
            planner.act(
                Action::RequeueStuck { entry_id },
                format!("the merge has run since {started_at}"),
            );
        }
    }
    let mut waiting: Vec<_> = view
        .reviews
        .iter()
        .filter(|review| review.waits_for_container(view.refinery.needed))
        .collect();
    waiting.sort_by_key(|review| (Reverse(review.priority), review.seq));
    for review in waiting {
        let rig_id = review.rig_id;
        if busy.contains(&rig_id) || view.holds.holds(Some(rig_id)) {
            continue;
        }
        if planner.is_due(review.due_at)
            && planner.has_container(view, "a branch waits to be merged")
        {
            let entry_id = review.entry_id;
            let why = if review.approval >= view.refinery.needed {
                "first in its rig's queue"
            } else {
                "the commit that is to be approved is not known yet"
            };
            planner.act(Action::Merge { entry_id }, why);
            busy.push(rig_id);
        }
    }
}
