//! Transitions of branches that go back to a polecat: it conflicts, a gate is red, or a reviewer
//! wants something changed. A few times; then a person is called.

use serde_json::json;

use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, Approval, Bead, BeadId, Json, MailType, Review,
    ReviewStatus,
};

use super::command::{NewReview, ReviewOutcome};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};
use super::{agents, beads, mail, refinery, reviews};

/// Times a branch goes back before a person is called.
pub(super) const REWORKS_MAX: u32 = 3;

/// Why a branch can't be merged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It conflicts with the target.
    Conflict,
    /// A gate failed on the merged tree.
    Gate,
    /// A reviewer wants something changed.
    ChangesRequested,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Gate => "gate",
            Self::ChangesRequested => "changes_requested",
        }
    }
}

/// Sends a branch back with what is wrong, or ends its review if that was done often enough.
pub(super) fn send_back(
    draft: &mut Draft<'_>,
    mut review: Review,
    cause: Cause,
    what: &str,
) -> Result<(), Error> {
    let source = draft.find_bead(review.source_bead_id)?;
    let can_be_mended = source.is_some_and(|bead| !bead.status.is_terminal());
    if !can_be_mended || review.reworks >= REWORKS_MAX {
        let status = if cause == Cause::Conflict {
            ReviewStatus::Conflict
        } else {
            ReviewStatus::Failed
        };
        let message = if can_be_mended {
            format!("it was sent back {REWORKS_MAX} times, and still: {what}")
        } else {
            what.to_owned()
        };
        let outcome = ReviewOutcome {
            status,
            message,
            commit_sha: None,
        };
        return reviews::end(draft, review, outcome);
    }
    refinery::take_off_hook(draft, &review)?;
    reviews::close_call(draft, review.entry_id)?;
    review.status = ReviewStatus::Rework;
    review.reworks += 1;
    review.attempts = 0;
    review.started_at = None;
    review.due_at = draft.now;
    review.approval = Approval::None;
    review.approval_note = None;
    review.head_sha = None;
    review.message = Some(what.to_owned());
    let metadata = json!({"cause": cause.as_str(), "rework": review.reworks, "reason": what});
    reviews::fact(draft, "review.rework", &review, metadata);
    let entry_id = review.entry_id;
    draft.set_review(review)?;
    hand_out(draft, entry_id)
}

/// Gives the work back to its author, or to a polecat that is free. If there is none now, later.
pub(super) fn hand_out(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    if review.status != ReviewStatus::Rework {
        return Ok(());
    }
    let source = draft.find_bead(review.source_bead_id)?;
    if let Some(source) = &source
        && beads::holder(draft, source)?.is_some()
    {
        return Ok(());
    }
    let Some(agent_id) = whoever_mends(draft, &review)? else {
        review.due_at = draft.now.after(draft.settings.backoff(1));
        return draft.set_review(review);
    };
    agents::hook(draft, review.rig_id, agent_id, review.source_bead_id)?;
    let subject = format!("mend {}", review.branch);
    let body = review.message.unwrap_or_default();
    mail::send_system(draft, agent_id, MailType::ReworkRequest, subject, body)
}

/// Its author knows the work and has the worktree.
fn whoever_mends(draft: &mut Draft<'_>, review: &Review) -> Result<Option<AgentId>, Error> {
    if let Some(author) = draft.find_agent(review.agent_id)?
        && author.rig_id == Some(review.rig_id)
        && author.hook.is_none()
        && author.status != AgentStatus::Dead
    {
        return Ok(Some(author.agent_id));
    }
    match agents::get_or_create(draft, review.rig_id, AgentRole::Polecat) {
        Ok(agent) => Ok(Some(agent.agent_id)),
        Err(Error::Refused(Refusal::TooManyPolecats(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The branch was mended: its merge request is in the queue again, and needs its approvals anew.
pub(super) fn resubmit(
    draft: &mut Draft<'_>,
    mut review: Review,
    author: &Agent,
    new: NewReview,
) -> Result<Bead, Error> {
    let new = NewReview {
        pr_url: new.pr_url.or_else(|| review.pr_url.clone()),
        ..new
    };
    let metadata = reviews::metadata_of(&new, review.reworks);
    let mut entry = draft.bead(review.entry_id)?;
    entry.metadata = Json::from_valid(metadata.to_string());
    entry.body.clone_from(&new.summary);
    entry.assignee_agent_id = Some(author.agent_id);
    entry.updated_at = draft.now;
    draft.set_bead(entry.clone())?;
    draft.fact(
        "review.submitted",
        Fact {
            bead_id: Some(review.source_bead_id),
            agent_id: Some(author.agent_id),
            rig_id: Some(review.rig_id),
            metadata,
            ..Fact::default()
        },
    );
    review.agent_id = author.agent_id;
    review.branch = new.branch;
    review.pr_url = new.pr_url;
    review.summary = new.summary;
    review.status = ReviewStatus::Pending;
    review.due_at = draft.now;
    review.refinery_failed = false;
    draft.set_review(review)?;
    Ok(entry)
}
