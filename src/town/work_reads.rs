//! Reads of what hangs together: dependencies, convoys, molecules.

use crate::model::{AgentId, Bead, BeadId, BeadType, DependencyKind, Molecule, MoleculeId, RigId};
use crate::storage::{
    self, BeadByConvoy, BeadDependent, BeadKey, ConvoyKey, MoleculeKey, NO_RIG, Tree,
};

use super::bead_lists;
use super::command::ConvoyState;
use super::handle::TownHandle;
use super::queries::Page;
use super::refusal::{Error, Refusal};

/// Everything that a bead depends on and that depends on it.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// What it depends on, in the order in which that was said.
    pub depends_on: Vec<(DependencyKind, Bead)>,
    /// What depends on it.
    pub dependents: Vec<(DependencyKind, Bead)>,
}

impl TownHandle {
    /// What a bead depends on and what depends on it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dependencies(
        &self,
        rig_id: RigId,
        bead_id: BeadId,
    ) -> Result<Dependencies, Error> {
        let bead = self.bead(rig_id, bead_id).await?;
        self.read(|tree| dependencies(tree, &bead)).await
    }

    /// Convoys of the town, newest first; with `landed` only those that have or have not.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn convoys(
        &self,
        landed: Option<bool>,
        page: Page,
    ) -> Result<Vec<ConvoyState>, Error> {
        use crate::model::BeadStatus::{Closed, Open};
        let status = landed.map(|landed| if landed { Closed } else { Open });
        self.read(|tree| {
            let ids = bead_lists::of_type(tree, NO_RIG, BeadType::Convoy, status);
            let page = ids.skip(page.offset).take(page.limit);
            let convoys = page.filter_map(|id| {
                id.and_then(|convoy_id| convoy_state(tree, convoy_id))
                    .transpose()
            });
            convoys.collect()
        })
        .await
    }

    /// A convoy and the beads in it, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn convoy(&self, convoy_id: BeadId) -> Result<(ConvoyState, Vec<Bead>), Error> {
        let found = self
            .read(|tree| {
                let Some(state) = convoy_state(tree, convoy_id)? else {
                    return Ok(None);
                };
                let mut beads = Vec::new();
                for row in tree.scan(&BeadByConvoy::of_convoy(convoy_id)) {
                    beads.extend(tree.get(&BeadKey { bead_id: row?.1.id })?);
                }
                Ok(Some((state, beads)))
            })
            .await?;
        Ok(found.ok_or(Refusal::ConvoyNotFound(convoy_id))?)
    }

    /// A molecule, if its bead is that rig's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn molecule(
        &self,
        rig_id: RigId,
        molecule_id: MoleculeId,
    ) -> Result<Molecule, Error> {
        let molecule = self
            .read(|tree| tree.get(&MoleculeKey { molecule_id }))
            .await?;
        Ok(molecule
            .filter(|molecule| molecule.rig_id == rig_id)
            .ok_or(Refusal::MoleculeNotFound(molecule_id))?)
    }

    /// The molecule of the bead on an agent's hook, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn current_molecule(
        &self,
        rig_id: RigId,
        agent_id: AgentId,
    ) -> Result<Option<Molecule>, Error> {
        let agent = self.agent(rig_id, agent_id).await?;
        let Some(bead_id) = agent.hook else {
            return Ok(None);
        };
        self.read(|tree| match tree.get(&BeadKey { bead_id })? {
            Some(bead) => molecule_of(tree, &bead),
            None => Ok(None),
        })
        .await
    }
}

/// The steps of a bead.
pub(super) fn molecule_of(tree: &Tree, bead: &Bead) -> Result<Option<Molecule>, storage::Error> {
    match bead.molecule_id {
        Some(molecule_id) => tree.get(&MoleculeKey { molecule_id }),
        None => Ok(None),
    }
}

fn convoy_state(tree: &Tree, convoy_id: BeadId) -> Result<Option<ConvoyState>, storage::Error> {
    let convoy = tree.get(&ConvoyKey { convoy_id })?;
    let bead = tree.get(&BeadKey { bead_id: convoy_id })?;
    Ok(convoy
        .zip(bead)
        .map(|(convoy, bead)| ConvoyState { convoy, bead }))
}

fn dependencies(tree: &Tree, bead: &Bead) -> Result<Dependencies, storage::Error> {
    let mut depends_on = Vec::with_capacity(bead.dependencies.len());
    for to in &bead.dependencies {
        let bead_id = to.on_bead_id;
        let on = tree.get(&BeadKey { bead_id })?;
        depends_on.extend(on.map(|on| (to.kind, on)));
    }
    let mut dependents = Vec::new();
    for row in tree.scan(&BeadDependent::on(bead.bead_id)) {
        let bead_id = row?.0.bead_id;
        let Some(dependent) = tree.get(&BeadKey { bead_id })? else {
            continue;
        };
        let to = (dependent.dependencies.iter()).find(|to| to.on_bead_id == bead.bead_id);
        dependents.extend(to.map(|to| to.kind).map(|kind| (kind, dependent)));
    }
    Ok(Dependencies {
        depends_on,
        dependents,
    })
}
