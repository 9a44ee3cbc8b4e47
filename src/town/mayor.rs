//! Transitions of the mayor: the one agent that people talk to, made with the town's first rig.

use serde_json::json;

use crate::model::{Agent, AgentRole, AgentStatus, Priority};
use crate::storage::{MailKey, MailUndelivered, RigKey, Tree};

use super::command::CompletedStatus;
use super::draft::Draft;
use super::mail::tells_in_session;
use super::refusal::{Error, Refusal};
use super::settings::TownSettings;
use super::{agents, container, escalations};

/// What its escalation is about.
const MATTER: &str = "mayor";

/// The town's first rig brings its mayor. One that was removed does not come back with the next
/// rig, but when it is spoken to.
pub(super) fn come_with_first_rig(draft: &mut Draft<'_>) -> Result<(), Error> {
    let is_first = draft.tree.scan(&RigKey::all()).next().is_none();
    if is_first {
        agents::mayor(draft)?;
        container::call_mayor(draft, !draft.settings.on_demand)?;
    }
    Ok(())
}

/// Removes the mayor with its session, its events and the mail to it; the town stays. Nothing
/// happens if there is none.
pub(super) fn destroy(draft: &mut Draft<'_>) -> Result<(), Error> {
    match draft.mayor()? {
        Some(mayor) => {
            container::call_mayor(draft, false)?;
            agents::remove(draft, &mayor)
        }
        None => Ok(()),
    }
}

/// An older client says that the mayor's run is over.
pub(super) fn completed(
    draft: &mut Draft<'_>,
    status: CompletedStatus,
    reason: Option<&str>,
) -> Result<Agent, Error> {
    let mayor = draft.mayor()?.ok_or(Refusal::MayorNotFound)?;
    let metadata = json!({"status": status.as_str(), "reason": reason});
    agents::record(draft, "agent.completed", &mayor, metadata);
    let agent_id = mayor.agent_id;
    agents::set_status(draft, mayor, AgentStatus::Idle, reason)?;
    draft.agent(agent_id)
}

/// Whether it failed so often to listen to people that it is not started for them any more. A bead on
/// its hook has tries of its own.
pub(super) fn is_given_up(agent: &Agent, settings: &TownSettings) -> bool {
    agent.role == AgentRole::Mayor
        && agent.hook.is_none()
        && agent.dispatch.requested_at.is_none()
        && agent.dispatch.attempts >= settings.attempts_max
}

/// The last try failed: people are called, and what was said to it waits.
pub(super) fn gave_up(draft: &mut Draft<'_>, mayor: &Agent, reason: &str) -> Result<(), Error> {
    let attempts = mayor.dispatch.attempts;
    let metadata = json!({"attempts": attempts, "reason": reason});
    agents::record(draft, "agent.given_up", mayor, metadata);
    escalations::raise_own(
        draft,
        None,
        Priority::High,
        MATTER.to_owned(),
        "the mayor can't be spoken to".to_owned(),
        format!(
            "{attempts} tries failed; the last one: {reason}\n\nWhat was said to it waits. Mend the \
             cause, then send it a message or resume the town."
        ),
    )
}

/// A person wants it, or something has changed for the better: it has all its tries again.
pub(super) fn try_again(draft: &mut Draft<'_>) -> Result<(), Error> {
    let given_up = draft
        .mayor()?
        .filter(|mayor| is_given_up(mayor, draft.settings));
    let Some(mut mayor) = given_up else {
        return Ok(());
    };
    agents::record(draft, "agent.tried_again", &mayor, json!({}));
    mayor.dispatch.attempts = 0;
    mayor.dispatch.due_at = draft.now;
    draft.set_agent(mayor)
}

/// It listened, and its turn ended well.
pub(super) fn listened(draft: &mut Draft<'_>, mut mayor: Agent) -> Result<(), Error> {
    if mayor.dispatch.attempts == 0 {
        return Ok(());
    }
    mayor.dispatch.attempts = 0;
    draft.set_agent(mayor)?;
    escalations::settle(draft, MATTER)
}

/// Whether mail waits that is to be told to the mayor now. Mail that only informs starts no
/// session: it is told with the next message that does.
pub(super) fn is_called_by_mail(tree: &Tree, mayor: &Agent) -> Result<bool, Error> {
    let runs = mayor.dispatch.requested_at.is_some();
    for row in tree.scan(&MailUndelivered::to(mayor.agent_id)) {
        let (MailUndelivered { to_agent_id, seq }, _) = row?;
        let mail = tree.get(&MailKey { to_agent_id, seq })?;
        if mail.is_some_and(|mail| mail.mail_type.wakes() || runs && tells_in_session(&mail)) {
            return Ok(true);
        }
    }
    Ok(false)
}
