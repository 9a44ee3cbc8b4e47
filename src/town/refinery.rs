//! Transitions of approvals: the refinery agent's review of a branch, and a person's word.

use serde_json::json;

use crate::model::{
    Agent, AgentId, AgentRole, Approval, BeadId, BeadStatus, MailType, Priority, Review,
    ReviewStatus, RigId,
};

use super::command::{Judgement, Verdict};
use super::draft::Draft;
use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::{agents, beads, breaker, dispatch, escalations, mail, reviews, rework};

/// What the escalation that asks for a person's approval is about.
pub(super) fn matter(entry_id: BeadId) -> String {
    format!("approve:{entry_id}")
}

/// Puts a merge request on the hook of the rig's refinery, which is made if there is none. One that
/// no hook takes, because somebody made it depend on other work, say, is left to a person: it may
/// not stand in the way of those behind it.
pub(super) fn begin(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let mut review = draft.review(entry_id)?;
    if review.status != ReviewStatus::Pending {
        return Ok(());
    }
    let refinery = agents::get_or_create(draft, review.rig_id, AgentRole::Refinery)?;
    let (subject, body) = (
        format!("review: {}", review.branch),
        format!("Branch {} is on your hook.", review.branch),
    );
    match agents::hook(draft, review.rig_id, refinery.agent_id, entry_id) {
        Ok(()) => {}
        // It has something else, and is asked again later.
        Err(error @ Error::Refused(Refusal::AgentHooked(..))) => return Err(error),
        Err(Error::Refused(refusal)) => {
            review.refinery_failed = true;
            let why = format!("the refinery can't take it: {refusal}");
            return set_waiting(draft, review, Priority::Medium, &why);
        }
        Err(error) => return Err(error),
    }
    mail::send_system(
        draft,
        refinery.agent_id,
        MailType::MergeReady,
        subject,
        body,
    )
}

/// A merge request came on an agent's hook, whoever put it there.
pub(super) fn hooked(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    entry_id: BeadId,
) -> Result<(), Error> {
    let Some(mut review) = draft.find_review(entry_id)? else {
        return Ok(());
    };
    match review.status {
        ReviewStatus::Pending | ReviewStatus::Waiting => {}
        elsewhere => return Err(Refusal::ReviewElsewhere(entry_id, elsewhere.as_str()).into()),
    }
    reviews::close_call(draft, entry_id)?;
    review.status = ReviewStatus::InReview;
    review.started_at = Some(draft.now);
    let metadata = json!({"reviewer": agent_id.to_string(), "branch": review.branch});
    reviews::fact(draft, "review.in_review", &review, metadata);
    draft.set_review(review)
}

/// The merge request was taken off its hook without a verdict: it waits for one again.
pub(super) fn unhooked(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let Some(mut review) = draft.find_review(entry_id)? else {
        return Ok(());
    };
    if review.status != ReviewStatus::InReview {
        return Ok(());
    }
    review.status = ReviewStatus::Pending;
    review.started_at = None;
    // Not at once: whoever took it off may want to do something with it.
    review.due_at = draft.now.after(draft.settings.backoff(1));
    reviews::fact(
        draft,
        "review.requeued",
        &review,
        json!({"reason": "taken off its hook"}),
    );
    draft.set_review(review)
}

/// The agent on whose hook the merge request is has come to a verdict.
pub(super) fn judge(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    entry_id: Option<BeadId>,
    judgement: Judgement,
) -> Result<(), Error> {
    let Judgement {
        verdict,
        text,
        head_sha,
    } = judgement;
    let agent = draft.agent_of(rig_id, agent_id)?;
    let entry_id = entry_id
        .or(agent.hook)
        .ok_or(Refusal::HookEmpty(agent_id))?;
    let review = reviews::open_review(draft, rig_id, entry_id)?;
    if agent.hook != Some(entry_id) || review.status != ReviewStatus::InReview {
        return Err(Refusal::ReviewNotHeld(entry_id, agent_id).into());
    }
    is_still_at(&review, head_sha.as_deref())?;
    free(draft, &agent, &review)?;
    dispatch::works_again(draft, rig_id)?;
    breaker::worked(draft, agent_id)?;
    match verdict {
        Verdict::Approve => approve(
            draft,
            review,
            Approval::Refinery,
            agent_id.to_string(),
            text,
        ),
        Verdict::RequestChanges => {
            rework::send_back(draft, review, rework::Cause::ChangesRequested, &text)
        }
    }
}

/// Refuses a word about another commit than the branch's.
fn is_still_at(review: &Review, looked_at: Option<&str>) -> Result<(), Error> {
    match (&review.head_sha, looked_at) {
        (Some(head), Some(looked_at)) if head != looked_at => {
            Err(Refusal::ReviewMoved(review.entry_id, head.clone()).into())
        }
        _ => Ok(()),
    }
}

/// A person approves the branch, wherever it waits; who reviews it need not go on. The word is for
/// the commit that is known, or that is named; before either, for the one that is found first.
pub(super) fn approve_as_person(
    draft: &mut Draft<'_>,
    mut review: Review,
    note: String,
    looked_at: Option<String>,
) -> Result<(), Error> {
    is_still_at(&review, looked_at.as_deref())?;
    review.head_sha = review.head_sha.or(looked_at);
    match review.status {
        ReviewStatus::Rework => {
            let elsewhere = review.status.as_str();
            return Err(Refusal::ReviewElsewhere(review.entry_id, elsewhere).into());
        }
        ReviewStatus::InReview => take_off_hook(draft, &review)?,
        _ => {}
    }
    approve(draft, review, Approval::Person, mail::USER.to_owned(), note)
}

fn approve(
    draft: &mut Draft<'_>,
    mut review: Review,
    approval: Approval,
    by: String,
    note: String,
) -> Result<(), Error> {
    let metadata = json!({
        "by": by, "approval": approval.as_str(), "note": note, "head_sha": review.head_sha,
    });
    reviews::fact(draft, "review.approved", &review, metadata);
    reviews::close_call(draft, review.entry_id)?;
    review.approval = review.approval.max(approval);
    review.approval_note = Some(note).filter(|note| !note.is_empty());
    // A merge that runs goes on.
    if review.status != ReviewStatus::Running {
        review.status = ReviewStatus::Pending;
        review.started_at = None;
        review.due_at = draft.now;
    }
    draft.set_review(review)
}

/// The container has looked at the branch instead of merging it. What was approved is one commit; if
/// the branch is at another one now, it needs its approvals anew.
pub(super) fn found(draft: &mut Draft<'_>, mut review: Review, head: String) -> Result<(), Error> {
    let is_known = review.head_sha.as_ref() == Some(&head);
    if is_known && review.approval >= draft.config()?.approval_needed() {
        // What is approved was to be merged: the container and the town do not agree.
        return reviews::failed_try(draft, review, "the approved commit was not merged");
    }
    let metadata = json!({"head_sha": head, "before": review.head_sha});
    if review.head_sha.is_some() && !is_known {
        review.approval = Approval::None;
        review.approval_note = None;
        reviews::fact(draft, "review.moved", &review, metadata);
    } else {
        reviews::fact(draft, "review.found", &review, metadata);
    }
    review.head_sha = Some(head);
    review.status = ReviewStatus::Pending;
    review.started_at = None;
    review.due_at = draft.now;
    review.attempts = 0;
    draft.set_review(review)
}

/// Only a person can approve the branch now.
pub(super) fn await_person(draft: &mut Draft<'_>, entry_id: BeadId) -> Result<(), Error> {
    let review = draft.review(entry_id)?;
    if review.status != ReviewStatus::Pending {
        return Ok(());
    }
    let why = if review.approval == Approval::Refinery {
        "the refinery has approved it; this town's merges need a person's word as well"
    } else {
        "this town's merges need a person's word"
    };
    set_waiting(draft, review, Priority::Medium, why)
}

/// The refinery came to no verdict: a person must.
pub(super) fn gave_up(draft: &mut Draft<'_>, entry_id: BeadId, failure: &str) -> Result<(), Error> {
    let Some(mut review) = draft.find_review(entry_id)? else {
        return Ok(());
    };
    if review.status != ReviewStatus::InReview {
        return Ok(());
    }
    take_off_hook(draft, &review)?;
    review.refinery_failed = true;
    let why = format!("the refinery could not review it: {failure}");
    set_waiting(draft, review, Priority::High, &why)
}

fn set_waiting(
    draft: &mut Draft<'_>,
    mut review: Review,
    priority: Priority,
    why: &str,
) -> Result<(), Error> {
    review.status = ReviewStatus::Waiting;
    review.started_at = None;
    review.message = Some(why.to_owned());
    reviews::fact(draft, "review.waiting", &review, json!({"reason": why}));
    let (entry_id, rig_id, branch) = (review.entry_id, review.rig_id, review.branch.clone());
    draft.set_review(review)?;
    escalations::raise_own(
        draft,
        Some(rig_id),
        priority,
        matter(entry_id),
        format!("{branch} waits for a person's approval"),
        format!(
            "{why}\n\nComplete merge request {entry_id} with \"merged\" to approve it (the town \
             then runs the gates, merges and proves it), with \"conflict\" to send it back with \
             your words, or with \"failed\" to end it."
        ),
    )
}

/// Whoever reviews the branch need not go on.
pub(super) fn take_off_hook(draft: &mut Draft<'_>, review: &Review) -> Result<(), Error> {
    let entry = draft.bead(review.entry_id)?;
    let Some(holder) = beads::holder(draft, &entry)? else {
        return Ok(());
    };
    let holder = draft.agent(holder)?;
    free(draft, &holder, review)
}

/// The merge request leaves the reviewer's hook and is the author's again.
fn free(draft: &mut Draft<'_>, reviewer: &Agent, review: &Review) -> Result<(), Error> {
    agents::release(draft, reviewer.agent_id)?;
    let mut reviewer = draft.agent(reviewer.agent_id)?;
    reviewer.dispatch.last_error = None;
    let reviewer_id = reviewer.agent_id;
    draft.set_agent(reviewer)?;
    draft.effect(Effect::StopAgent(reviewer_id));
    let mut entry = draft.bead(review.entry_id)?;
    entry.assignee_agent_id = draft
        .find_agent(review.agent_id)?
        .map(|agent| agent.agent_id);
    if entry.status == BeadStatus::InProgress {
        beads::change_status(draft, entry, BeadStatus::Open, None)
    } else {
        draft.set_bead(entry)
    }
}
