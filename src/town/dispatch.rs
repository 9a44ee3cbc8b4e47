//! Transitions of the scheduler: starting agents, and what becomes of a run that ended.

use std::time::Duration;

use serde_json::json;

use crate::container::ExitKind;
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, BeadStatus, Priority, RigId, Timestamp,
};

use super::draft::Draft;
use super::effects::Effect;
use super::refusal::Error;
use super::{agents, asks, beads, breaker, container, escalations, mail, mayor, refinery};

/// Times an agent that stopped without calling done is told to go on before its run counts as
/// failed.
const REMINDERS_MAX: u32 = 3;

/// A container that ends is not asked again within this time: it takes up to minutes to save its
/// work, and its end is told.
const DEFERRAL: Duration = Duration::from_secs(2);

/// A model that names a later time than this is tried earlier: a wrong clock must not stop work for ever.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is said of a session that could not be spoken to.
const NOT_TOLD: &str = "its session takes no message";

/// What was asked to stop is not asked again within this time: its turn may go on for a minute.
pub(super) const LEFTOVER_PAUSE: Duration = Duration::from_secs(120);

/// The container is to be asked to start the agent.
pub(super) fn request(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let mut agent = draft.agent(agent_id)?;
    if agent.role == AgentRole::Mayor {
        container::call_mayor(draft, false)?;
    }
    agent.dispatch.attempts += 1;
    agent.dispatch.requested_at = Some(draft.now);
    agent.dispatch.given_up = None;
    if agent.dispatch.session_bead_id != agent.hook {
        // A new bead gets a fresh session; the old conversation would only mislead.
        agent.dispatch.session_id = None;
        agent.dispatch.session_bead_id = agent.hook;
    }
    let metadata = json!({"attempt": agent.dispatch.attempts});
    agents::record(draft, "agent.dispatched", &agent, metadata);
    draft.effect(Effect::StartAgent(agent_id));
    agents::set_status(draft, agent, AgentStatus::Working, None)
}

/// Its turn ended because its run is about to: its exit follows.
pub(super) fn idle_at_end(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    agents::touch(draft, agent_id)
}

/// The agent has its session.
pub(super) fn started(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    session_id: String,
    resumed: bool,
) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    let metadata = json!({"session_id": session_id, "resumed": resumed});
    agents::record(draft, "agent.started", &agent, metadata);
    agent.last_activity_at = Some(draft.now);
    if !runs_for_hook(&agent) {
        draft.effect(Effect::StopAgent(agent_id));
        return agents::set_status(draft, agent, AgentStatus::Idle, None);
    }
    agent.dispatch.session_id = Some(session_id);
    // A mayor that was started to be spoken to waits; one with a bead works like everybody.
    let status = if agent.hook.is_none() {
        AgentStatus::Idle
    } else {
        AgentStatus::Working
    };
    agents::set_status(draft, agent, status, None)
}

/// Whether what runs for the agent was started for what is on its hook now. If not, its stop was
/// asked for, but that may have been lost with the server that was to carry it out.
pub(super) fn runs_for_hook(agent: &Agent) -> bool {
    agent.role == AgentRole::Mayor
        || agent.hook.is_some() && agent.hook == agent.dispatch.session_bead_id
}

/// What runs for work that was taken away is asked to stop once more.
pub(super) fn stop_leftover(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let mut agent = draft.agent(agent_id)?;
    agent.dispatch.due_at = draft.now.after(LEFTOVER_PAUSE);
    draft.effect(Effect::StopAgent(agent_id));
    draft.set_agent(agent)
}

/// The agent's turn ended well.
pub(super) fn turn_ended(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let agent = draft.find_agent(agent_id)?;
    let listened = agent.filter(|agent| agent.role == AgentRole::Mayor && agent.hook.is_none());
    if let Some(mayor) = listened {
        mayor::listened(draft, mayor)?;
    }
    idle(draft, agent_id)
}

/// The agent is between two turns. One with work left is told to go on, a few times.
pub(super) fn idle(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    asks::forget(draft, agent_id)?;
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    agent.last_activity_at = Some(draft.now);
    breaker::worked(draft, agent_id)?;
    if agent.status == AgentStatus::Stalled {
        agents::set_status(draft, agent.clone(), AgentStatus::Working, None)?;
        agent.status = AgentStatus::Working;
    }
    let runs = agent.dispatch.requested_at.is_some();
    let converses = agent.role == AgentRole::Mayor && agent.hook.is_none();
    if converses || !runs {
        return agents::set_status(draft, agent, AgentStatus::Idle, None);
    }
    if !runs_for_hook(&agent) {
        draft.effect(Effect::StopAgent(agent_id));
        return agents::set_status(draft, agent, AgentStatus::Idle, None);
    }
    if mail::is_to_be_told(draft, &agent)? {
        // News may be all that it waits for, so this is no reminder.
        agents::record(draft, "agent.told", &agent, json!({}));
        draft.effect(Effect::Tell(agent_id));
        // It may have waited for an answer when its turn ended.
        return agents::set_status(draft, agent, AgentStatus::Working, None);
    }
    if agent.dispatch.reminders < REMINDERS_MAX {
        agent.dispatch.reminders += 1;
        let metadata = json!({"reminder": agent.dispatch.reminders});
        agents::record(draft, "agent.reminded", &agent, metadata);
        draft.effect(Effect::Remind(agent_id));
    } else {
        agent.dispatch.given_up = Some(format!(
            "stopped {} times without calling gt_done",
            REMINDERS_MAX + 1
        ));
        draft.effect(Effect::StopAgent(agent_id));
    }
    // It may have waited for an answer when its turn ended.
    agents::set_status(draft, agent, AgentStatus::Working, None)
}

/// The container that was to remind the agent ends, and the agent's run with it: that was none of
/// its reminders. Its exit brings it back to the queue.
pub(super) fn reminder_deferred(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    match draft.find_agent(agent_id)? {
        Some(mut agent) => {
            agent.dispatch.reminders = agent.dispatch.reminders.saturating_sub(1);
            draft.set_agent(agent)
        }
        None => Ok(()),
    }
}

/// The container runs the agent, but its turn is over: if the town still takes it for working, what
/// told of the end, or what was to follow from it, was lost.
pub(super) fn found_idle(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    match draft.find_agent(agent_id)? {
        // One without a session yet has not been prompted.
        Some(agent) if agent.dispatch.session_id.is_some() => idle(draft, agent_id),
        _ => Ok(()),
    }
}

/// The container did not say whether it runs the agent, however often it was asked: whatever it does,
/// nobody can speak to it.
pub(super) fn unverified(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    attempts: u32,
    reason: &str,
) -> Result<(), Error> {
    let runs = draft
        .find_agent(agent_id)?
        .is_some_and(|agent| agent.dispatch.requested_at.is_some());
    if !runs {
        return Ok(());
    }
    let reason =
        format!("the container was asked about it {attempts} times; the last time: {reason}");
    failed_try(draft, agent_id, ExitKind::AgentServer, &reason)
}

/// A message did not reach the agent's session: it is tried again after a while, and the container
/// is asked whether it still knows the agent.
pub(super) fn not_told(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    if agent.dispatch.requested_at.is_none() {
        return Ok(());
    }
    if agent.role != AgentRole::Mayor {
        // Its exit brings it back to the queue, and its next run hands the mail over.
        draft.effect(Effect::StopAgent(agent_id));
        return Ok(());
    }
    // Where its start was the last try, this is how that try failed, and not one more.
    let tries = agent.dispatch.attempts + 1;
    agent.dispatch.attempts = tries.min(draft.settings.attempts_max);
    if tries >= draft.settings.attempts_max {
        draft.set_agent(agent)?;
        draft.effect(Effect::StopAgent(agent_id));
        return failed_try(draft, agent_id, ExitKind::Session, NOT_TOLD);
    }
    let wait = draft.settings.backoff(agent.dispatch.attempts);
    agent.dispatch.due_at = draft.now.after(wait);
    draft.effect(Effect::Verify(agent_id));
    agents::set_status(draft, agent, AgentStatus::Idle, None)
}

/// The agent's run was stopped or drained: nothing went wrong.
pub(super) fn stopped(draft: &mut Draft<'_>, agent_id: AgentId, reason: &str) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    // Given up on after its reminders: that is a failed run, only stopped politely.
    let given_up = agent.dispatch.given_up.take();
    if let (Some(reason), Some(_)) = (given_up, agent.hook) {
        draft.set_agent(agent)?;
        return failed_try(draft, agent_id, ExitKind::Session, &reason);
    }
    asks::forget(draft, agent_id)?;
    let metadata = json!({"status": "stopped", "reason": reason});
    agents::record(draft, "agent.exited", &agent, metadata);
    // One end may be heard of twice, or after its run was counted as failed: it gives back one try.
    if agent.dispatch.requested_at.take().is_some() {
        agent.dispatch.attempts = agent.dispatch.attempts.saturating_sub(1);
        agent.dispatch.due_at = draft.now;
    }
    agents::set_status(draft, agent, AgentStatus::Idle, Some(reason))
}

/// The container that was asked ends. That is no try: the next container is asked soon.
pub(super) fn deferred(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    match draft.find_agent(agent_id)? {
        // Its end may have been heard of meanwhile.
        Some(agent) if agent.dispatch.requested_at.is_some() => {}
        _ => return Ok(()),
    }
    stopped(draft, agent_id, "the container ends; the next one is asked")?;
    let mut agent = draft.agent(agent_id)?;
    agent.dispatch.due_at = draft.now.after(DEFERRAL);
    draft.set_agent(agent)
}

/// A try failed, and the breaker counts it.
pub(super) fn failed_try(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    kind: ExitKind,
    reason: &str,
) -> Result<(), Error> {
    failed(draft, agent_id, kind, reason)?;
    breaker::failed(draft, Some(agent_id), reason)
}

/// A try failed: the next one waits, and after the last one the bead fails. What failed many
/// agents at once is counted once by the caller.
pub(super) fn failed(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    kind: ExitKind,
    reason: &str,
) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    asks::forget(draft, agent_id)?;
    let attempts = agent.dispatch.attempts;
    let metadata = json!({
        "status": "failed", "kind": kind.as_str(), "reason": reason, "attempt": attempts,
    });
    agents::record(draft, "agent.exited", &agent, metadata);
    agent.dispatch.requested_at = None;
    agent.dispatch.reminders = 0;
    agent.dispatch.given_up = None;
    agent.dispatch.last_error = Some(reason.to_owned());
    agent.dispatch.due_at = draft.now.after(draft.settings.backoff(attempts));
    let given_up = attempts >= draft.settings.attempts_max;
    let (hook, snapshot) = (agent.hook, agent.clone());
    agents::set_status(draft, agent, AgentStatus::Idle, Some(reason))?;
    if FOR_PERSONS.contains(&kind) {
        call_person(draft, &snapshot, kind, reason)?;
    }
    let Some(bead_id) = hook.filter(|_| given_up) else {
        let is_over = given_up && snapshot.role == AgentRole::Mayor && hook.is_none();
        return if is_over {
            mayor::gave_up(draft, &snapshot, reason)
        } else {
            Ok(())
        };
    };
    let bead = draft.bead(bead_id)?;
    let failure = format!("{attempts} tries failed; the last one: {reason}");
    if draft.find_review(bead_id)?.is_some() {
        return refinery::gave_up(draft, bead_id, &failure);
    }
    beads::finish(
        draft,
        bead_id,
        BeadStatus::Failed,
        Some(failure.clone()),
        None,
    )?;
    escalations::raise_own(
        draft,
        snapshot.rig_id,
        Priority::High,
        format!("bead:{bead_id}"),
        format!("gave up on: {}", bead.title),
        format!("{failure}\n\nMend the cause and retry the bead."),
    )
}

/// The next try waits at least until a moment that the model named.
pub(super) fn wait_until(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    retry_at: Option<Timestamp>,
) -> Result<(), Error> {
    let (Some(retry_at), Some(mut agent)) = (retry_at, draft.find_agent(agent_id)?) else {
        return Ok(());
    };
    let retry_at = retry_at.min(draft.now.after(WAIT_MAX));
    if retry_at <= agent.dispatch.due_at {
        return Ok(());
    }
    let metadata = json!({"until": retry_at.to_string()});
    agents::record(draft, "agent.held_back", &agent, metadata);
    agent.dispatch.due_at = retry_at;
    draft.set_agent(agent)
}

/// What only a person can mend, so that they are called at the first failure.
const FOR_PERSONS: &[ExitKind] = &[
    ExitKind::ProgramMissing,
    ExitKind::Repository,
    ExitKind::Config,
    ExitKind::Model,
];

/// An agent of the rig has finished its work: what kept agents from working is mended, and nobody
/// need look at it any more.
pub(super) fn works_again(draft: &mut Draft<'_>, rig_id: RigId) -> Result<(), Error> {
    for kind in FOR_PERSONS {
        escalations::settle(draft, &matter(*kind, Some(rig_id)))?;
    }
    mayor::try_again(draft)
}

/// What an escalation is about: a repository is one rig's, everything else the whole town's.
fn matter(kind: ExitKind, rig_id: Option<RigId>) -> String {
    match (kind, rig_id) {
        (ExitKind::Repository, Some(rig_id)) => format!("{}:{rig_id}", kind.as_str()),
        _ => kind.as_str().to_owned(),
    }
}

fn call_person(
    draft: &mut Draft<'_>,
    agent: &Agent,
    kind: ExitKind,
    reason: &str,
) -> Result<(), Error> {
    let title = match kind {
        ExitKind::ProgramMissing => "the agent program can't be started",
        ExitKind::Model => "the model can't be used",
        ExitKind::Config => "the town's config can't be used",
        _ => "the repository can't be used",
    };
    escalations::raise_own(
        draft,
        agent.rig_id,
        Priority::High,
        matter(kind, agent.rig_id),
        title.to_owned(),
        format!(
            "Agent {} could not work: {reason}\n\nIt is tried again by itself.",
            agent.name
        ),
    )
}
