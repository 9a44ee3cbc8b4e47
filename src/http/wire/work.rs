//! Dependencies, convoys, molecules and the ledger on the wire.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::{Bead, BeadId, DependencyKind, Epoch, Molecule, MoleculeStep, Timestamp};
use crate::town::{Advanced, ConvoyState, Dependencies, LedgerEvent};

use super::nouns::{Text, WireBead, raw, text, texts};

#[derive(Serialize)]
pub(in crate::http) struct WireDependency {
    #[serde(rename = "type")]
    kind: &'static str,
    bead: WireBead,
}

#[derive(Serialize)]
pub(in crate::http) struct WireDependencies {
    depends_on: Vec<WireDependency>,
    dependents: Vec<WireDependency>,
}

impl From<Dependencies> for WireDependencies {
    fn from(dependencies: Dependencies) -> Self {
        let wire = |list: Vec<(DependencyKind, Bead)>| {
            list.into_iter()
                .map(|(kind, bead)| WireDependency {
                    kind: kind.as_str(),
                    bead: bead.into(),
                })
                .collect()
        };
        Self {
            depends_on: wire(dependencies.depends_on),
            dependents: wire(dependencies.dependents),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireConvoy {
    id: Text<BeadId>,
    title: String,
    status: &'static str,
    total_beads: u32,
    closed_beads: u32,
    failed_beads: u32,
    created_by: Option<String>,
    created_at: Text<Timestamp>,
    landed_at: Option<Text<Timestamp>>,
}

impl From<ConvoyState> for WireConvoy {
    fn from(ConvoyState { convoy, bead }: ConvoyState) -> Self {
        Self {
            id: text(convoy.convoy_id),
            title: bead.title,
            status: if convoy.landed_at.is_some() {
                "landed"
            } else {
                "active"
            },
            total_beads: convoy.total,
            closed_beads: convoy.closed,
            failed_beads: convoy.failed,
            created_by: bead.created_by,
            created_at: text(bead.created_at),
            landed_at: texts(convoy.landed_at),
        }
    }
}

/// A convoy with its beads.
#[derive(Serialize)]
pub(in crate::http) struct WireWholeConvoy {
    #[serde(flatten)]
    convoy: WireConvoy,
    beads: Vec<WireBead>,
}

impl From<(ConvoyState, Vec<Bead>)> for WireWholeConvoy {
    fn from((state, beads): (ConvoyState, Vec<Bead>)) -> Self {
        Self {
            convoy: state.into(),
            beads: beads.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
struct WireStep {
    title: String,
    instructions: String,
    summary: Option<String>,
}

impl From<MoleculeStep> for WireStep {
    fn from(step: MoleculeStep) -> Self {
        Self {
            title: step.title,
            instructions: step.instructions,
            summary: step.summary,
        }
    }
}

#[derive(Serialize)]
struct WireFormula {
    steps: Vec<WireStep>,
}

#[derive(Serialize)]
pub(in crate::http) struct WireMolecule {
    id: Text<crate::model::MoleculeId>,
    bead_id: Text<BeadId>,
    formula: WireFormula,
    current_step: u32,
    status: &'static str,
    created_at: Text<Timestamp>,
    updated_at: Text<Timestamp>,
}

impl From<Molecule> for WireMolecule {
    fn from(molecule: Molecule) -> Self {
        Self {
            id: text(molecule.molecule_id),
            bead_id: text(molecule.bead_id),
            formula: WireFormula {
                steps: molecule.steps.into_iter().map(Into::into).collect(),
            },
            current_step: molecule.current_step,
            status: molecule.status.as_str(),
            created_at: text(molecule.created_at),
            updated_at: text(molecule.updated_at),
        }
    }
}

/// The step that an agent is at. Older clients know these names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct WireCurrentStep {
    molecule_id: Text<crate::model::MoleculeId>,
    current_step: u32,
    total_steps: usize,
    step: Option<WireStep>,
    status: &'static str,
}

impl From<Molecule> for WireCurrentStep {
    fn from(molecule: Molecule) -> Self {
        Self {
            molecule_id: text(molecule.molecule_id),
            current_step: molecule.current_step,
            total_steps: molecule.steps.len(),
            step: molecule.step().cloned().map(Into::into),
            status: molecule.status.as_str(),
        }
    }
}

/// A step that was done, and the one that comes next.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct WireAdvanced {
    molecule_id: Text<crate::model::MoleculeId>,
    previous_step: u32,
    current_step: u32,
    total_steps: usize,
    completed: bool,
    step: Option<WireStep>,
}

impl From<Advanced> for WireAdvanced {
    fn from(advanced: Advanced) -> Self {
        let Advanced {
            molecule,
            previous_step,
        } = advanced;
        let step: Option<WireStep> = molecule.step().cloned().map(Into::into);
        Self {
            molecule_id: text(molecule.molecule_id),
            previous_step,
            current_step: molecule.current_step,
            total_steps: molecule.steps.len(),
            completed: step.is_none(),
            step,
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireLedgerEvent {
    bead_event_id: Text<Epoch>,
    seq: u64,
    bead_id: Text<BeadId>,
    rig_id: Option<Text<crate::model::RigId>>,
    agent_id: Option<String>,
    actor: Option<String>,
    event_type: String,
    old_value: Option<String>,
    new_value: Option<String>,
    metadata: Box<RawValue>,
    created_at: Text<Timestamp>,
}

impl From<LedgerEvent> for WireLedgerEvent {
    fn from(event: LedgerEvent) -> Self {
        Self {
            bead_event_id: text(event_id(event.epoch, event.seq)),
            seq: event.seq,
            bead_id: text(event.bead_id),
            rig_id: texts(event.rig_id),
            // Older clients look here for whoever did it.
            agent_id: event.agent_id.or_else(|| event.actor.clone()),
            actor: event.actor,
            event_type: event.event_type,
            old_value: event.old_value,
            new_value: event.new_value,
            metadata: raw(&event.metadata),
            created_at: text(event.created_at),
        }
    }
}

/// A UUID that the same event always has: the feed's own, changed by the event's place in it.
fn event_id(epoch: Epoch, seq: u64) -> Epoch {
    let mut bytes = *epoch.as_bytes();
    for (byte, of_seq) in bytes[8..].iter_mut().zip(seq.to_be_bytes()) {
        *byte ^= of_seq;
    }
    Epoch::from_bytes(bytes)
}
