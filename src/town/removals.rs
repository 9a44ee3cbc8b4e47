//! Transitions of what a deleted agent leaves in its container: its worktree is archived and removed,
//! however often that takes, up to a limit.

use serde_json::json;

use crate::model::{Agent, AgentId, Priority, Removal};
use crate::storage::RemovalKey;

use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::escalations;
use super::refusal::Error;

/// Tries after which a worktree is left alone and people are told.
pub(super) const REMOVAL_ATTEMPTS_MAX: u32 = 5;

/// An agent is deleted. One that never ran left nothing in the container.
pub(super) fn left_by(draft: &mut Draft<'_>, agent: &Agent) {
    let agent_id = agent.agent_id;
    draft.effect(Effect::DeleteLog(agent_id));
    let ran = agent.dispatch.session_id.is_some()
        || agent.dispatch.session_bead_id.is_some()
        || agent.dispatch.requested_at.is_some();
    if ran {
        let removal = Removal {
            agent_id,
            rig_id: agent.rig_id,
            name: agent.name.clone(),
            attempts: 0,
            due_at: draft.now,
            asked_at: None,
        };
        draft.put(&RemovalKey { agent_id }, &removal);
    }
}

/// Of deleted agents whose worktrees are still there.
pub(super) fn names(draft: &Draft<'_>) -> Result<Vec<String>, Error> {
    let rows = draft.tree.scan(&RemovalKey::all());
    rows.map(|row| Ok(row?.1.name)).collect()
}

/// The container is to be asked.
pub(super) fn remove(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let key = RemovalKey { agent_id };
    let Some(mut removal) = draft.tree.get(&key)? else {
        return Ok(());
    };
    if draft.agent_name_taken(&removal.name)? {
        // The folder is another one's by now, which takes it over as it is.
        draft.remove(&key);
        draft.effect(Effect::HaltAgent(agent_id));
        return Ok(());
    }
    removal.asked_at = Some(draft.now);
    draft.put(&key, &removal);
    draft.effect(Effect::RemoveAgent {
        agent_id,
        rig_id: removal.rig_id,
        name: removal.name,
    });
    Ok(())
}

/// The container has answered, or could not be asked.
pub(super) fn removed(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    outcome: Result<(), String>,
) -> Result<(), Error> {
    let key = RemovalKey { agent_id };
    let Some(removal) = draft.tree.get(&key)? else {
        return Ok(());
    };
    match outcome {
        Ok(()) => {
            draft.remove(&key);
            fact(draft, "agent.removed", &removal, json!({}));
            Ok(())
        }
        Err(reason) => try_failed(draft, removal, &reason),
    }
}

fn try_failed(draft: &mut Draft<'_>, mut removal: Removal, reason: &str) -> Result<(), Error> {
    let agent_id = removal.agent_id;
    let key = RemovalKey { agent_id };
    removal.asked_at = None;
    removal.attempts += 1;
    let attempts = removal.attempts;
    let metadata = json!({"name": removal.name, "reason": reason, "attempt": attempts});
    fact(draft, "agent.remove_failed", &removal, metadata);
    if attempts < REMOVAL_ATTEMPTS_MAX {
        removal.due_at = draft.now.after(draft.settings.backoff(attempts));
        draft.put(&key, &removal);
        return Ok(());
    }
    draft.remove(&key);
    escalations::raise_own(
        draft,
        None,
        Priority::Medium,
        format!("removal:{agent_id}"),
        format!("the worktree of {} could not be removed", removal.name),
        format!(
            "{attempts} tries failed; the last one: {reason}\n\nThe agent is deleted. Its worktree is \
             where it was, with everything in it."
        ),
    )
}

fn fact(draft: &mut Draft<'_>, event_type: &str, removal: &Removal, metadata: serde_json::Value) {
    draft.fact(
        event_type,
        Fact {
            agent_id: Some(removal.agent_id),
            rig_id: removal.rig_id,
            metadata,
            ..Fact::default()
        },
    );
}
