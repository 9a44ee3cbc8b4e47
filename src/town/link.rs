//! Transitions that take over what the container says. Each message is taken over once: its place
//! in the container's stream is stored in the same batch as what follows from it.

use crate::container::{AgentReport, ExitKind, MergeReport};
use crate::model::{AgentId, Epoch, ReviewStatus};
use crate::storage::{LinkPosition, ReviewByStatus};

use super::breaker;
use super::command::ReviewOutcome;
use super::draft::Draft;
use super::effects::Effect;
use super::refusal::Error;
use super::usage;
use super::{agents, asks, container, disk, dispatch, refinery, reviews, rework};

/// Takes over the message at `place` if it is new. One that the state refuses is taken over with no
/// change: refusing it again and again would hold up everything behind it.
pub(super) fn take_over(
    draft: &mut Draft<'_>,
    place: LinkPosition,
    transition: impl FnOnce(&mut Draft<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let known = draft.link()?;
    if known.is_some_and(|last| last.epoch == place.epoch && place.seq <= last.seq) {
        return Ok(());
    }
    match transition(draft) {
        Ok(()) => {}
        Err(Error::Refused(refusal)) => {
            tracing::warn!(town = %draft.town_id, %refusal, "a container's message does not fit");
            draft.reset();
        }
        Err(error) => return Err(error),
    }
    draft.set_link(place);
    Ok(())
}

/// The link to a container is up. One of another life than the last knows nothing of what was
/// asked of that; one of the same life is asked about what may not have reached it.
pub(super) fn up(draft: &mut Draft<'_>, epoch: Epoch) -> Result<(), Error> {
    container::ready(draft, epoch)?;
    let same_life = draft.link()?.is_some_and(|last| last.epoch == epoch);
    for agent in draft.active_agents()? {
        if agent.dispatch.requested_at.is_none() {
            continue;
        }
        if same_life && !dispatch::runs_for_hook(&agent) {
            draft.effect(Effect::StopAgent(agent.agent_id));
        } else if same_life {
            draft.effect(Effect::Verify(agent.agent_id));
        } else {
            dispatch::stopped(draft, agent.agent_id, "the container was started anew")?;
        }
    }
    for entry_id in running(draft)? {
        if same_life {
            draft.effect(Effect::Merge(entry_id));
        } else {
            reviews::running_failed(draft, entry_id, "the container was started anew")?;
        }
    }
    if same_life {
        asks::answer_again(draft)?;
    } else {
        disk::tidy_failed(draft, "the container was started anew")?;
        draft.set_link(LinkPosition { epoch, seq: 0 });
    }
    Ok(())
}

/// The container's process is gone. Where it was to end, nothing went wrong.
pub(super) fn down(draft: &mut Draft<'_>, reason: &str) -> Result<(), Error> {
    let was_to_end = container::gone(draft, reason)?;
    let mut ran = false;
    for agent in draft.active_agents()? {
        if agent.dispatch.requested_at.is_none() {
            continue;
        }
        if was_to_end {
            dispatch::stopped(draft, agent.agent_id, "the container ended")?;
        } else {
            dispatch::failed(draft, agent.agent_id, ExitKind::AgentServer, reason)?;
            ran = true;
        }
    }
    // One cause, however many it hit.
    if ran {
        breaker::failed(draft, None, reason)?;
    }
    for entry_id in running(draft)? {
        reviews::running_failed(draft, entry_id, reason)?;
    }
    disk::tidy_failed(draft, reason)
}

pub(super) fn report(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    report: AgentReport,
) -> Result<(), Error> {
    let goes_on = !matches!(
        report,
        AgentReport::Stopped { .. } | AgentReport::Failed { .. }
    );
    if goes_on && draft.find_agent(agent_id)?.is_none() {
        // It was deleted, and the container was not told, or not yet.
        draft.effect(Effect::StopAgent(agent_id));
        return Ok(());
    }
    match report {
        AgentReport::Started {
            session_id,
            resumed,
        } => dispatch::started(draft, agent_id, session_id, resumed),
        AgentReport::Stopped { reason } => dispatch::stopped(draft, agent_id, &reason),
        AgentReport::Failed {
            kind,
            reason,
            retry_at,
        } => {
            dispatch::failed_try(draft, agent_id, kind, &reason)?;
            dispatch::wait_until(draft, agent_id, retry_at)
        }
        AgentReport::Idle { ends: true } => dispatch::idle_at_end(draft, agent_id),
        AgentReport::Idle { ends: false } => dispatch::turn_ended(draft, agent_id),
        AgentReport::Used { message_id, usage } => {
            usage::count(draft, agent_id, &message_id, usage)
        }
        AgentReport::Waiting(asked) => asks::opened(draft, agent_id, asked),
        AgentReport::Limited { reason } => agents::limited(draft, agent_id, &reason),
        AgentReport::Setback(setback) => agents::setback(draft, agent_id, &setback),
        AgentReport::Recovered => agents::recovered(draft, agent_id),
        AgentReport::Resumed { ask_id } => asks::closed(draft, agent_id, &ask_id),
    }
}

pub(super) fn merged(draft: &mut Draft<'_>, merge: MergeReport) -> Result<(), Error> {
    let MergeReport {
        entry_id,
        status,
        message,
        commit_sha,
        retryable,
        gates,
    } = merge;
    let review = match draft.review(entry_id) {
        Ok(review) => review,
        // The merge request was deleted meanwhile.
        Err(Error::Refused(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    // A merge that was taken for stuck may still end well. A finished review stays finished, and
    // one that went elsewhere meanwhile is about other commits: if these are on the target, the next
    // merge finds them there.
    let is_about_this = match review.status {
        ReviewStatus::Running => true,
        ReviewStatus::Pending => review.attempts > 0,
        _ => false,
    };
    if !is_about_this {
        return Ok(());
    }
    if status == ReviewStatus::Pending {
        return refinery::found(draft, review, commit_sha.unwrap_or_default());
    }
    if let Some(gates) = gates {
        draft.set_review_output(entry_id, Some(gates.output));
        if !gates.passed {
            return rework::send_back(draft, review, rework::Cause::Gate, &message);
        }
    }
    if status == ReviewStatus::Conflict {
        return rework::send_back(draft, review, rework::Cause::Conflict, &message);
    }
    if status == ReviewStatus::Failed && retryable {
        return reviews::failed_try(draft, review, &message);
    }
    let outcome = ReviewOutcome {
        status,
        message,
        commit_sha,
    };
    reviews::end(draft, review, outcome)
}

fn running(draft: &mut Draft<'_>) -> Result<Vec<crate::model::BeadId>, Error> {
    let rows = draft
        .tree
        .scan(&ReviewByStatus::of_status(ReviewStatus::Running));
    Ok(rows
        .map(|row| row.map(|(_, to)| to.id))
        .collect::<Result<Vec<_>, _>>()?)
}
