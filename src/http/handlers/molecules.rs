//! Molecules: the steps of beads.

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{Fields, TEXT, TITLE};
use crate::http::wire::{WireAdvanced, WireCurrentStep, WireMolecule};
use crate::model::{BeadId, MoleculeStep};

/// Steps of one molecule: they stand in one row.
const STEPS_MAX: usize = 100;

pub(in crate::http) async fn create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let bead_id: Option<BeadId> = fields.required_id("bead_id");
    let steps = fields.part("formula", steps).unwrap_or_default();
    fields.finish()?;
    let bead_id = bead_id.ok_or(ApiError::not_found("bead"))?;
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    created(WireMolecule::from(
        town.create_molecule(rig_id, bead_id, steps).await?,
    ))
}

fn steps(formula: &mut Fields<'_>) -> Vec<MoleculeStep> {
    let parts = formula.objects("steps");
    if formula.is_sound() && !(1..=STEPS_MAX).contains(&parts.len()) {
        formula.issue("steps", format!("must be 1 to {STEPS_MAX} steps"));
    }
    let mut steps = Vec::with_capacity(parts.len());
    for (index, mut part) in parts.into_iter().enumerate() {
        steps.push(MoleculeStep {
            title: part.required_text("title", TITLE),
            instructions: part.text("instructions", TEXT).unwrap_or_default(),
            summary: None,
        });
        formula.absorb("steps", index, part);
    }
    steps
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    let (rig_id, molecule_id) = (context.rig_id()?, context.id("molecule", "molecule")?);
    ok(WireMolecule::from(
        context.town()?.molecule(rig_id, molecule_id).await?,
    ))
}

/// `null` where there are no steps: most beads have none.
pub(in crate::http) async fn current(context: Context) -> Reply {
    let (rig_id, agent_id) = (context.rig_id()?, context.agent_id()?);
    let molecule = context.town()?.current_molecule(rig_id, agent_id).await?;
    ok(molecule.map(WireCurrentStep::from))
}

pub(in crate::http) async fn advance(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let summary = fields.required_text("summary", TEXT);
    fields.finish()?;
    let (rig_id, agent_id) = (context.rig_id()?, context.agent_id()?);
    let advanced = context
        .town()?
        .advance_molecule(rig_id, agent_id, summary)
        .await?;
    ok(advanced.map(WireAdvanced::from))
}
