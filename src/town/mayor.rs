//! Transitions of the mayor: the one agent that people talk to, made with the town's first rig.

use serde_json::json;

use crate::model::{Agent, AgentStatus};
use crate::storage::RigKey;

use super::command::CompletedStatus;
use super::draft::Draft;
use super::refusal::{Error, Refusal};
use super::{agents, container};

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
