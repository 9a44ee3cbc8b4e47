//! Transitions of the review queue: branches on their way to the target branch.
//!
//! A merge request waits (`pending`), may be reviewed by the rig's refinery agent (`in_review`) or
//! wait for a person (`waiting`), is merged behind its gates (`running`), may go back to a polecat
//! (`rework`), and ends `merged`, `failed` or `conflict`. The refinery's part is in `refinery`, the
//! way back in `rework`.

use serde_json::json;

use crate::model::{
    Approval, Bead, BeadId, BeadStatus, BeadType, Json, MailType, Priority, Review, ReviewStatus,
    RigId,
};

use super::beads;
use super::command::{NewBead, NewReview, ReviewOutcome};
use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::{escalations, mail, refinery, rework};

/// Tries of a merge that may succeed by itself later.
pub(super) const MERGE_ATTEMPTS_MAX: u32 = 5;

/// The label that older clients look for.
const MERGE_REQUEST_LABEL: &str = "gt:merge-request";

/// Queues a branch. The merge request is a bead; its review row holds what a bead does not. One that
/// was sent back goes on with its merge request.
pub(super) fn submit(draft: &mut Draft<'_>, rig_id: RigId, new: NewReview) -> Result<Bead, Error> {
    let author = draft.agent_of(rig_id, new.agent_id)?;
    let source = draft.bead_of(rig_id, new.bead_id)?;
    if source.status.is_terminal() {
        return Err(Refusal::BeadTerminal(new.bead_id, source.status.as_str()).into());
    }
    if let Some(review) = unfinished(draft, new.bead_id)? {
        return if review.status == ReviewStatus::Rework {
            rework::resubmit(draft, review, &author, new)
        } else {
            Err(Refusal::BeadInReview(new.bead_id, review.entry_id).into())
        };
    }
    let metadata = metadata_of(&new, 0);
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
        reworks: 0,
        approval: Approval::None,
        approval_note: None,
        refinery_failed: false,
        head_sha: None,
    })?;
    Ok(entry)
}

/// What a merge request's bead tells of it.
pub(super) fn metadata_of(new: &NewReview, reworks: u32) -> serde_json::Value {
    json!({
        "source_bead_id": new.bead_id.to_string(),
        "branch": new.branch,
        "pr_url": new.pr_url,
        "reworks": reworks,
    })
}

/// A merge has been asked for. One that lacks an approval by now, or is elsewhere, is left alone;
/// but as long as nobody knows the commit that is to be approved, the container looks at the branch.
pub(super) fn start(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    let is_approved = review.approval >= draft.config()?.approval_needed();
    if !waits_for_container(review.status, is_approved, review.head_sha.is_some()) {
        return Ok(());
    }
    close_call(draft, entry_id)?;
    review.status = ReviewStatus::Running;
    review.started_at = Some(draft.now);
    review.attempts += 1;
    let metadata = json!({"attempt": review.attempts, "branch": review.branch});
    fact(draft, "review.started", &review, metadata);
    draft.set_review(review)?;
    draft.effect(Effect::Merge(entry_id));
    Ok(())
}

/// Whether the container has to merge a merge request's branch, or to look at it because nobody knows
/// its commit.
pub(super) fn waits_for_container(status: ReviewStatus, is_approved: bool, is_known: bool) -> bool {
    match status {
        ReviewStatus::Pending => is_approved || !is_known,
        ReviewStatus::Waiting => is_approved,
        _ => false,
    }
}

/// A merge came to no verdict on the branch: it was refused for a reason that may pass, never
/// answered, or lost with its container. It is tried again after a while, a few times.
pub(super) fn failed_try(draft: &mut Draft<'_>, review: Review, reason: &str) -> Result<(), Error> {
    if review.attempts < MERGE_ATTEMPTS_MAX {
        return requeue(draft, review, reason);
    }
    let outcome = ReviewOutcome {
        status: ReviewStatus::Failed,
        message: format!("{MERGE_ATTEMPTS_MAX} tries failed; the last one: {reason}"),
        commit_sha: None,
    };
    end(draft, review, outcome)
}

/// The same of a merge that runs; any other is left alone.
pub(super) fn running_failed(
    draft: &mut Draft<'_>,
    entry_id: BeadId,
    reason: &str,
) -> Result<(), Error> {
    match draft.find_review(entry_id)? {
        Some(review) if review.status == ReviewStatus::Running => failed_try(draft, review, reason),
        _ => Ok(()),
    }
}

/// Back to the queue, to be tried again after a pause.
fn requeue(draft: &mut Draft<'_>, mut review: Review, reason: &str) -> Result<(), Error> {
    let wait = draft.settings.backoff(review.attempts);
    review.status = ReviewStatus::Pending;
    review.started_at = None;
    review.due_at = draft.now.after(wait);
    review.message = Some(reason.to_owned());
    fact(draft, "review.requeued", &review, json!({"reason": reason}));
    draft.set_review(review)
}

/// What a person says of a merge request: `merged` approves it, and the town merges and proves it;
/// `conflict` sends it back; `failed` ends it. `looked_at` is the branch's commit that the person saw,
/// if that was said; see [`Review::head_sha`].
pub(super) fn decide(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    entry_id: BeadId,
    outcome: ReviewOutcome,
    looked_at: Option<String>,
) -> Result<(), Error> {
    let review = open_review(draft, rig_id, entry_id)?;
    match outcome.status {
        ReviewStatus::Merged => {
            refinery::approve_as_person(draft, review, outcome.message, looked_at)
        }
        ReviewStatus::Conflict if review.status == ReviewStatus::Rework => {
            Err(Refusal::ReviewElsewhere(entry_id, review.status.as_str()).into())
        }
        ReviewStatus::Conflict => {
            rework::send_back(draft, review, rework::Cause::Conflict, &outcome.message)
        }
        _ => end(draft, review, outcome),
    }
}

/// The merge request, if it is that rig's and not finished.
pub(super) fn open_review(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    entry_id: BeadId,
) -> Result<Review, Error> {
    let review = draft.review(entry_id)?;
    if review.rig_id != rig_id {
        return Err(Refusal::ReviewNotFound(entry_id).into());
    }
    if review.status.is_finished() {
        return Err(Refusal::ReviewFinished(entry_id, review.status.as_str()).into());
    }
    Ok(review)
}

/// Ends a review; `merged` closes the work, anything else fails it and calls a person.
pub(super) fn end(
    draft: &mut Draft<'_>,
    mut review: Review,
    outcome: ReviewOutcome,
) -> Result<(), Error> {
    let ReviewOutcome {
        status,
        message,
        commit_sha,
    } = outcome;
    let entry_id = review.entry_id;
    close_call(draft, entry_id)?;
    review.status = status;
    review.message = Some(message.clone());
    review.commit_sha.clone_from(&commit_sha);
    let metadata = json!({"status": status.as_str(), "message": message, "commit_sha": commit_sha});
    fact(draft, "review.completed", &review, metadata);
    let source = draft.find_bead(review.source_bead_id)?;
    draft.set_review(review.clone())?;
    let title = source.as_ref().map_or("", |bead| bead.title.as_str());
    if status == ReviewStatus::Merged {
        let body = format!(
            "{message} ({})",
            commit_sha.as_deref().unwrap_or("no commit")
        );
        tell(
            draft,
            &review,
            MailType::Merged,
            &format!("merged: {title}"),
            &body,
        )?;
        beads::finish(draft, entry_id, BeadStatus::Closed, None, None)?;
        if source.is_some() {
            beads::finish(draft, review.source_bead_id, BeadStatus::Closed, None, None)?;
        }
        return Ok(());
    }
    let what = if status == ReviewStatus::Conflict {
        "conflicts with"
    } else {
        "could not be merged into"
    };
    let branch = &review.branch;
    let reason = format!("branch {branch} {what} the target branch: {message}");
    tell(
        draft,
        &review,
        MailType::MergeFailed,
        &format!("not merged: {title}"),
        &reason,
    )?;
    beads::finish(draft, entry_id, BeadStatus::Failed, Some(message), None)?;
    let Some(source) = source else { return Ok(()) };
    let source_bead_id = source.bead_id;
    beads::finish(
        draft,
        source_bead_id,
        BeadStatus::Failed,
        Some(reason.clone()),
        None,
    )?;
    escalations::raise_own(
        draft,
        Some(review.rig_id),
        Priority::High,
        format!("merge:{source_bead_id}"),
        format!("{branch} was not merged: {}", source.title),
        format!(
            "{reason}\n\nThe branch is kept. Set the bead's status to \"open\" and sling it again, or merge the branch by hand."
        ),
    )
}

/// The author hears how it went, and the mayor, where no escalation tells it the same.
fn tell(
    draft: &mut Draft<'_>,
    review: &Review,
    mail_type: MailType,
    subject: &str,
    body: &str,
) -> Result<(), Error> {
    let is_escalated =
        mail_type == MailType::MergeFailed && draft.find_bead(review.source_bead_id)?.is_some();
    if let Some(mayor) = draft.mayor()?.filter(|_| !is_escalated) {
        mail::send_system(draft, mayor.agent_id, mail_type, subject, body)?;
    }
    mail::send_system(draft, review.agent_id, mail_type, subject, body)
}

/// Somebody ended or deleted the merge request itself: it will not be merged, and the work, if
/// nobody has it, can be taken up again.
pub(super) fn withdraw(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let Some(review) = draft.find_review(entry_id)? else {
        return Ok(());
    };
    if review.status.is_finished() {
        return Ok(());
    }
    let source_bead_id = review.source_bead_id;
    set_withdrawn(draft, review, "withdrawn")?;
    let Some(mut source) = draft.find_bead(source_bead_id)? else {
        return Ok(());
    };
    if source.status != BeadStatus::InProgress || beads::holder(draft, &source)?.is_some() {
        return Ok(());
    }
    source.assignee_agent_id = None;
    beads::change_status(draft, source, BeadStatus::Open, None)
}

/// The work whose branch was to be mended was ended, deleted or taken off its hook: there is nothing
/// left that could be merged.
pub(super) fn abandon_rework(draft: &mut Draft<'_>, source_bead_id: BeadId) -> Result<(), Error> {
    let Some(review) = unfinished(draft, source_bead_id)? else {
        return Ok(());
    };
    if review.status != ReviewStatus::Rework {
        return Ok(());
    }
    let (entry_id, reason) = (review.entry_id, "its bead was taken back");
    set_withdrawn(draft, review, reason)?;
    let failure = Some(reason.to_owned());
    beads::finish(draft, entry_id, BeadStatus::Failed, failure, None)
}

fn set_withdrawn(draft: &mut Draft<'_>, mut review: Review, why: &str) -> Result<(), Error> {
    close_call(draft, review.entry_id)?;
    review.status = ReviewStatus::Failed;
    review.message = Some(why.to_owned());
    fact(draft, "review.withdrawn", &review, json!({"reason": why}));
    draft.set_review(review)
}

/// A person need not look at the merge request any more.
pub(super) fn close_call(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    escalations::settle(draft, &refinery::matter(entry_id))
}

/// The merge request of a bead that is not finished.
pub(super) fn unfinished(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<Option<Review>, Error> {
    let newest = draft.review_of_source(bead_id)?;
    Ok(newest.filter(|review| !review.status.is_finished()))
}

pub(super) fn fact(
    draft: &mut Draft<'_>,
    event_type: &str,
    review: &Review,
    mut metadata: serde_json::Value,
) {
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
