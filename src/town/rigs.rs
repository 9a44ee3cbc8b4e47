//! Transitions of rigs.

use serde_json::json;

use crate::model::{AgentId, Rig, RigId};
use crate::storage::{AgentByRig, BeadByRig};

use super::command::NewRig;
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};
use super::{agents, beads, mayor};

pub(super) fn create(draft: &mut Draft<'_>, new: NewRig) -> Result<Rig, Error> {
    if draft.rig_name_taken(&new.name)? {
        return Err(Refusal::RigNameTaken(new.name).into());
    }
    let rig = Rig {
        rig_id: RigId::random(),
        town_id: draft.town_id,
        name: new.name,
        git_url: new.git_url,
        default_branch: new.default_branch,
        platform_integration_id: new.platform_integration_id,
        kilocode_token: new.kilocode_token,
        paused: false,
        created_at: draft.now,
        updated_at: draft.now,
    };
    let metadata = json!({"name": rig.name, "default_branch": rig.default_branch});
    draft.fact(
        "rig.created",
        Fact {
            rig_id: Some(rig.rig_id),
            metadata,
            ..Fact::default()
        },
    );
    mayor::come_with_first_rig(draft)?;
    draft.set_rig(rig.clone())?;
    Ok(rig)
}

/// Removes the rig with its beads and agents; says which agents' logs are to go.
pub(super) fn delete(draft: &mut Draft<'_>, rig_id: RigId) -> Result<Vec<AgentId>, Error> {
    let rig = draft.rig(rig_id)?;
    let mut removed = Vec::new();
    for row in draft.tree.scan(&AgentByRig::of_rig(rig_id)) {
        removed.push(row?.1.id);
    }
    for agent_id in &removed {
        agents::delete(draft, rig_id, *agent_id)?;
    }
    for row in draft.tree.scan(&BeadByRig::of_rig(rig_id)) {
        beads::delete(draft, rig_id, row?.1.id)?;
    }
    draft.remove_rig(rig_id)?;
    let metadata = json!({"name": rig.name});
    draft.fact(
        "rig.deleted",
        Fact {
            rig_id: Some(rig_id),
            metadata,
            ..Fact::default()
        },
    );
    Ok(removed)
}
