//! Transitions of the review queue: branches on their way to the target branch.

use serde_json::json;

use crate::model::{
    Bead, BeadId, BeadStatus, BeadType, Json, Priority, Review, ReviewStatus, RigId, Timestamp,
};
use crate::storage::ReviewByStatus;

use super::beads;
use super::command::{NewBead, NewReview, ReviewOutcome};
use super::draft::{Draft, Fact};
use super::escalations;
use super::refusal::{Error, Refusal};

/// The label that older clients look for.
const MERGE_REQUEST_LABEL: &str = "gt:merge-request";

/// Queues a branch. The merge request is a bead; its review row holds what a bead does not.
pub(super) fn submit(draft: &mut Draft<'_>, rig_id: RigId, new: NewReview) -> Result<Bead, Error> {
    draft.agent_of(rig_id, new.agent_id)?;
    let source = draft.bead_of(rig_id, new.bead_id)?;
    if source.status.is_terminal() {
        return Err(Refusal::BeadTerminal(new.bead_id, source.status.as_str()).into());
    }
    if let Some(waiting) = unfinished_of(draft, new.bead_id)? {
        return Err(Refusal::BeadInReview(new.bead_id, waiting).into());
    }
    let metadata = json!({
        "source_bead_id": source.bead_id.to_string(),
        "branch": new.branch,
        "pr_url": new.pr_url,
    });
    let mut entry = beads::create(
        draft,
        Some(rig_id),
        NewBead {
            bead_type: BeadType::MergeRequest,
            title: format!("Review: {}", new.branch),
            body: new.summary.clone(),
            priority: source.priority,
            labels: vec![MERGE_REQUEST_LABEL.to_owned()],
            metadata: Json::from_valid(metadata.to_string()),
            assignee_agent_id: None,
            parent_bead_id: None,
            created_by: Some(new.agent_id.to_string()),
            convoy_id: None,
            depends_on: Vec::new(),
        },
    )?;
    entry.assignee_agent_id = Some(new.agent_id);
    draft.set_bead(entry.clone())?;
    draft.fact(
        "review.submitted",
        Fact {
            metadata,
            agent_id: Some(new.agent_id),
            ..beads::fact_of(&source)
        },
    );
    draft.set_review(Review {
        entry_id: entry.bead_id,
        seq: entry.seq,
        rig_id,
        source_bead_id: source.bead_id,
        agent_id: new.agent_id,
        branch: new.branch,
        pr_url: new.pr_url,
        summary: new.summary,
        status: ReviewStatus::Pending,
        attempts: 0,
        due_at: draft.now,
        started_at: None,
        message: None,
        commit_sha: None,
    })?;
    Ok(entry)
}

/// A merge has been asked for.
pub(super) fn start(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    review.status = ReviewStatus::Running;
    review.started_at = Some(draft.now);
    review.attempts += 1;
    let metadata = json!({"attempt": review.attempts, "branch": review.branch});
    fact(draft, "review.started", &review, metadata);
    draft.set_review(review)
}

/// Back to the queue, to be tried again at `due_at`.
pub(super) fn requeue(
    draft: &mut Draft<'_>,
    entry_id: BeadId,
    due_at: Timestamp,
    reason: &str,
) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    if review.status != ReviewStatus::Running {
        return Ok(());
    }
    review.status = ReviewStatus::Pending;
    review.started_at = None;
    review.due_at = due_at;
    review.message = Some(reason.to_owned());
    fact(draft, "review.requeued", &review, json!({"reason": reason}));
    draft.set_review(review)
}

/// Ends a review; `merged` closes the work, anything else fails it and calls a person.
pub(super) fn complete(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    entry_id: BeadId,
    outcome: ReviewOutcome,
) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    if review.rig_id != rig_id {
        return Err(Refusal::ReviewNotFound(entry_id).into());
    }
    if !matches!(review.status, ReviewStatus::Pending | ReviewStatus::Running) {
        return Err(Refusal::ReviewFinished(entry_id, review.status.as_str()).into());
    }
    let ReviewOutcome {
        status,
        message,
        commit_sha,
    } = outcome;
    review.status = status;
    review.message = Some(message.clone());
    review.commit_sha.clone_from(&commit_sha);
    let metadata = json!({"status": status.as_str(), "message": message, "commit_sha": commit_sha});
    fact(draft, "review.completed", &review, metadata);
    let source_bead_id = review.source_bead_id;
    let (branch, source) = (review.branch.clone(), draft.find_bead(source_bead_id)?);
    draft.set_review(review)?;
    if status == ReviewStatus::Merged {
        beads::finish(draft, entry_id, BeadStatus::Closed, None, None)?;
        if source.is_some() {
            beads::finish(draft, source_bead_id, BeadStatus::Closed, None, None)?;
        }
        return Ok(());
    }
    beads::finish(
        draft,
        entry_id,
        BeadStatus::Failed,
        Some(message.clone()),
        None,
    )?;
    let Some(source) = source else { return Ok(()) };
    let what = if status == ReviewStatus::Conflict {
        "conflicts with"
    } else {
        "could not be merged into"
    };
    let reason = format!("branch {branch} {what} the target branch: {message}");
    beads::finish(
        draft,
        source_bead_id,
        BeadStatus::Failed,
        Some(reason.clone()),
        None,
    )?;
    escalations::raise_own(
        draft,
        Some(rig_id),
        Priority::High,
        format!("merge:{source_bead_id}"),
        format!("{branch} was not merged: {}", source.title),
        format!(
            "{reason}\n\nThe branch is kept. Set the bead's status to \"open\" and sling it again, or merge the branch by hand."
        ),
    )
}

/// Somebody ended or deleted the merge request itself: it will not be merged, and the work, if
/// nobody has it, can be taken up again.
pub(super) fn withdraw(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let Some(mut review) = draft.find_review(entry_id)? else {
        return Ok(());
    };
    if !matches!(review.status, ReviewStatus::Pending | ReviewStatus::Running) {
        return Ok(());
    }
    review.status = ReviewStatus::Failed;
    review.message = Some("withdrawn".to_owned());
    fact(draft, "review.withdrawn", &review, json!({}));
    let source_bead_id = review.source_bead_id;
    draft.set_review(review)?;
    let Some(mut source) = draft.find_bead(source_bead_id)? else {
        return Ok(());
    };
    if source.status != BeadStatus::InProgress || beads::holder(draft, &source)?.is_some() {
        return Ok(());
    }
    source.assignee_agent_id = None;
    beads::change_status(draft, source, BeadStatus::Open, None)
}

/// The merge request through which a bead's branch still waits.
pub(super) fn unfinished_of(
    draft: &mut Draft<'_>,
    bead_id: BeadId,
) -> Result<Option<BeadId>, Error> {
    for status in [ReviewStatus::Pending, ReviewStatus::Running] {
        for row in draft.tree.scan(&ReviewByStatus::of_status(status)) {
            let review = draft.review(row?.1.id)?;
            let waits = matches!(review.status, ReviewStatus::Pending | ReviewStatus::Running);
            if waits && review.source_bead_id == bead_id {
                return Ok(Some(review.entry_id));
            }
        }
    }
    Ok(None)
}

fn fact(draft: &mut Draft<'_>, event_type: &str, review: &Review, mut metadata: serde_json::Value) {
    metadata["entry_id"] = review.entry_id.to_string().into();
    draft.fact(
        event_type,
        Fact {
            bead_id: Some(review.source_bead_id),
            agent_id: Some(review.agent_id),
            rig_id: Some(review.rig_id),
            metadata,
            ..Fact::default()
        },
    );
}
