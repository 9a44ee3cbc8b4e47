//! Transitions of molecules: the ordered steps of a bead.
//!
//! A molecule belongs to one bead and is worked on by whoever has that bead on its hook; its row
//! says the step, so it goes on there after any restart and with any other agent. It completes with
//! its last step and fails with its bead.
//!
//! An agent can't hand in or close a bead whose molecule has steps left: the steps are what the work
//! was said to consist of, so "done" without them would be untrue, and the refusal tells the agent
//! which step to go on with. People may close what they like.

use serde_json::{Value, json};

use crate::model::{
    AgentId, Bead, BeadId, BeadStatus, Molecule, MoleculeId, MoleculeStatus, MoleculeStep, RigId,
};

use super::beads;
use super::command::Advanced;
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};

pub(super) fn create(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    bead_id: BeadId,
    steps: Vec<MoleculeStep>,
) -> Result<Molecule, Error> {
    let mut bead = draft.bead_of(rig_id, bead_id)?;
    if bead.status.is_terminal() {
        return Err(Refusal::BeadTerminal(bead_id, bead.status.as_str()).into());
    }
    if let Some(old) = of_bead(draft, &bead)? {
        if old.status == MoleculeStatus::Active {
            return Err(Refusal::MoleculeExists(bead_id, old.molecule_id).into());
        }
        draft.remove_molecule(old.molecule_id)?;
    }
    let molecule = Molecule {
        molecule_id: MoleculeId::random(),
        bead_id,
        rig_id,
        steps,
        current_step: 0,
        status: MoleculeStatus::Active,
        created_at: draft.now,
        updated_at: draft.now,
    };
    bead.molecule_id = Some(molecule.molecule_id);
    bead.updated_at = draft.now;
    let titles: Vec<&str> = (molecule.steps.iter())
        .map(|step| step.title.as_str())
        .collect();
    record(
        draft,
        "molecule.created",
        &bead,
        &molecule,
        json!({"steps": titles}),
    );
    draft.set_bead(bead)?;
    draft.set_molecule(molecule.clone())?;
    Ok(molecule)
}

/// The step of the bead on the agent's hook is done. `None` if there are no steps there at all.
pub(super) fn advance(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    summary: String,
) -> Result<Option<Advanced>, Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    let bead = match agent.hook {
        Some(bead_id) => draft.find_bead(bead_id)?,
        None => None,
    };
    let Some(bead) = bead else { return Ok(None) };
    let Some(mut molecule) = of_bead(draft, &bead)? else {
        return Ok(None);
    };
    if molecule.status != MoleculeStatus::Active {
        let (id, status) = (molecule.molecule_id, molecule.status.as_str());
        return Err(Refusal::MoleculeFinished(id, status).into());
    }
    let previous_step = molecule.current_step;
    if let Some(step) = molecule.steps.get_mut(previous_step as usize) {
        step.summary = Some(summary.clone());
    }
    molecule.current_step += 1;
    molecule.updated_at = draft.now;
    let completed = molecule.step().is_none();
    if completed {
        molecule.status = MoleculeStatus::Completed;
    }
    let metadata = json!({"step": previous_step, "summary": summary});
    by(
        draft,
        "molecule.advanced",
        agent_id,
        &bead,
        &molecule,
        metadata,
    );
    if completed {
        by(
            draft,
            "molecule.completed",
            agent_id,
            &bead,
            &molecule,
            json!({}),
        );
    }
    draft.set_molecule(molecule.clone())?;
    super::agents::touch(draft, agent_id)?;
    Ok(Some(Advanced {
        molecule,
        previous_step,
    }))
}

/// The molecule of the bead on a hook.
pub(super) fn of_bead(draft: &mut Draft<'_>, bead: &Bead) -> Result<Option<Molecule>, Error> {
    match bead.molecule_id {
        Some(molecule_id) => draft.find_molecule(molecule_id),
        None => Ok(None),
    }
}

/// Refuses an agent's word that the bead is finished while it has steps left.
pub(super) fn refuse_unfinished(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<(), Error> {
    let Some(bead) = draft.find_bead(bead_id)? else {
        return Ok(());
    };
    match of_bead(draft, &bead)? {
        Some(molecule) if molecule.status == MoleculeStatus::Active => {
            let steps = u32::try_from(molecule.steps.len()).unwrap_or(u32::MAX);
            Err(Refusal::MoleculeUnfinished(bead_id, molecule.current_step + 1, steps).into())
        }
        _ => Ok(()),
    }
}

/// The bead has a new status, or is deleted.
pub(super) fn moved(
    draft: &mut Draft<'_>,
    bead: &Bead,
    new: Option<BeadStatus>,
) -> Result<(), Error> {
    let Some(mut molecule) = of_bead(draft, bead)? else {
        return Ok(());
    };
    let Some(new) = new else {
        return draft.remove_molecule(molecule.molecule_id);
    };
    molecule.status = match (molecule.status, new.is_terminal()) {
        (MoleculeStatus::Active, true) => MoleculeStatus::Failed,
        // The work is taken up again, at the step it was at.
        (MoleculeStatus::Failed, false) => MoleculeStatus::Active,
        _ => return Ok(()),
    };
    molecule.updated_at = draft.now;
    let (event_type, metadata) = if molecule.status == MoleculeStatus::Failed {
        let reason = bead
            .failure
            .clone()
            .unwrap_or_else(|| "the bead was closed before its last step".to_owned());
        ("molecule.failed", json!({"reason": reason}))
    } else {
        ("molecule.resumed", json!({}))
    };
    record(draft, event_type, bead, &molecule, metadata);
    draft.set_molecule(molecule)
}

fn record(
    draft: &mut Draft<'_>,
    event_type: &str,
    bead: &Bead,
    molecule: &Molecule,
    metadata: Value,
) {
    let fact = fact(bead, molecule, metadata);
    draft.fact(event_type, fact);
}

fn by(
    draft: &mut Draft<'_>,
    event_type: &str,
    agent_id: AgentId,
    bead: &Bead,
    molecule: &Molecule,
    metadata: Value,
) {
    let fact = Fact {
        agent_id: Some(agent_id),
        ..fact(bead, molecule, metadata)
    };
    draft.fact(event_type, fact);
}

fn fact(bead: &Bead, molecule: &Molecule, mut metadata: Value) -> Fact {
    metadata["molecule_id"] = molecule.molecule_id.to_string().into();
    metadata["current_step"] = molecule.current_step.into();
    metadata["total_steps"] = molecule.steps.len().into();
    Fact {
        metadata,
        ..beads::fact_of(bead)
    }
}
