//! What a transition works on: the town as it is, and the changes so far.
//!
//! A draft reads through its own changes to the tree. Nothing is written until the actor stages
//! the whole draft into one batch; a refused one is simply dropped.

use serde_json::{Value, json};

use crate::agent_log::NewEvent;
use crate::model::{
    Agent, AgentId, AgentRole, Bead, BeadId, ContainerLife, Convoy, Mail, Molecule, MoleculeId,
    Review, Rig, RigId, Scheduler, Timestamp, Town, TownId,
};
use crate::storage::{
    self, AgentActive, AgentByIdentity, AgentByName, AgentByRig, AgentByRole, Batch,
    BeadByAssignee, BeadDependent, BeadKey, Count, CounterKey, EscalationFold, Key, LinkKey,
    LinkPosition, MailKey, Pointer, ReviewBySource, RigByName, Tree,
};

use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::rows;
use super::settings::TownSettings;
use super::tables::{Single, Table};

/// A change in the making.
pub(super) struct Draft<'a> {
    pub(super) tree: &'a Tree,
    pub(super) town_id: TownId,
    pub(super) now: Timestamp,
    pub(super) settings: &'a TownSettings,
    rigs: Table<Rig>,
    agents: Table<Agent>,
    beads: Table<Bead>,
    reviews: Table<Review>,
    town: Single<Town>,
    scheduler: Single<Scheduler>,
    container: Single<ContainerLife>,
    convoys: Table<Convoy>,
    molecules: Table<Molecule>,
    /// Rows without a table: written once per command and not read back within it.
    extra: Batch,
    next_seq: Option<u64>,
    /// Each with the bead it is about, and that bead's rig.
    facts: Vec<(NewEvent, Option<AboutBead>)>,
    effects: Vec<Effect>,
    wakes: bool,
}

/// The bead that a fact is about, and that bead's rig.
type AboutBead = (BeadId, Option<RigId>);

/// Something that happened, for the town's feed and its ledger.
#[derive(Debug, Default)]
pub(super) struct Fact {
    pub(super) bead_id: Option<BeadId>,
    pub(super) agent_id: Option<AgentId>,
    pub(super) rig_id: Option<RigId>,
    /// Who did it, where that is not the agent it is about.
    pub(super) actor: Option<String>,
    pub(super) old_value: Option<String>,
    pub(super) new_value: Option<String>,
    pub(super) metadata: Value,
}

/// What is left when a draft has been staged.
pub(super) struct Staged {
    pub(super) batch: Batch,
    pub(super) facts: Vec<NewEvent>,
    pub(super) effects: Vec<Effect>,
    /// Whether the alarm has to look although nothing is told or asked for.
    pub(super) wakes: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        town_id: TownId,
        now: Timestamp,
        settings: &'a TownSettings,
    ) -> Self {
        Self {
            tree,
            town_id,
            now,
            settings,
            rigs: Table::new(),
            agents: Table::new(),
            beads: Table::new(),
            reviews: Table::new(),
            town: Single::default(),
            scheduler: Single::default(),
            container: Single::default(),
            convoys: Table::new(),
            molecules: Table::new(),
            extra: Batch::new(),
            next_seq: None,
            facts: Vec::new(),
            effects: Vec::new(),
            wakes: false,
        }
    }

    /// Forgets every change.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.tree, self.town_id, self.now, self.settings);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.facts.is_empty()
            && self.extra.is_empty()
            && self.effects.is_empty()
            && self.rigs.is_same()
            && self.agents.is_same()
            && self.beads.is_same()
            && self.reviews.is_same()
            && self.town.is_same()
            && self.scheduler.is_same()
            && self.container.is_same()
            && self.convoys.is_same()
            && self.molecules.is_same()
    }

    /// Turns the draft into one batch. `first_fact` is the id the town's feed gives next.
    pub(super) fn stage(self, first_fact: u64) -> Staged {
        let mut batch = self.extra;
        self.rigs.stage(&mut batch);
        self.agents.stage(&mut batch);
        self.beads.stage(&mut batch);
        self.reviews.stage(&mut batch);
        self.town.stage(&mut batch, &storage::TownKey {});
        self.scheduler.stage(&mut batch, &storage::SchedulerKey {});
        self.container.stage(&mut batch, &storage::ContainerKey {});
        self.convoys.stage(&mut batch);
        self.molecules.stage(&mut batch);
        if let Some(value) = self.next_seq {
            batch.put(&CounterKey {}, &Count { value });
        }
        let mut facts = Vec::with_capacity(self.facts.len());
        for (seq, (event, bead)) in (first_fact..).zip(self.facts) {
            if let Some((bead_id, rig_id)) = bead {
                super::ledger::stage(&mut batch, bead_id, rig_id, seq);
            }
            facts.push(event);
        }
        Staged {
            batch,
            facts,
            effects: self.effects,
            wakes: self.wakes,
        }
    }

    /// The next number of the town's order of creation.
    pub(super) fn next_seq(&mut self) -> Result<u64, Error> {
        let seq = match self.next_seq {
            Some(seq) => seq,
            None => self.tree.get(&CounterKey {})?.unwrap_or_default().value,
        };
        self.next_seq = Some(seq + 1);
        Ok(seq)
    }

    /// Records a fact: it stands in the ledger and goes out on the town's feed.
    pub(super) fn fact(&mut self, event_type: &str, fact: Fact) {
        let Fact {
            bead_id,
            agent_id,
            rig_id,
            actor,
            old_value,
            new_value,
            metadata,
        } = fact;
        let actor = actor.or_else(|| agent_id.map(|id| id.to_string()));
        let metadata = if metadata.is_null() {
            json!({})
        } else {
            metadata
        };
        let id = |id: Option<String>| id.map_or(Value::Null, Value::String);
        let data = json!({
            "bead_id": id(bead_id.map(|id| id.to_string())),
            "agent_id": id(agent_id.map(|id| id.to_string())),
            "rig_id": id(rig_id.map(|id| id.to_string())),
            "actor": id(actor),
            "old_value": id(old_value),
            "new_value": id(new_value),
            "metadata": metadata,
        });
        let event = NewEvent {
            event_type: event_type.to_owned(),
            data: data.to_string().into(),
            timestamp: self.now,
            link: None,
        };
        self.facts
            .push((event, bead_id.map(|bead_id| (bead_id, rig_id))));
    }

    /// Asks for a side effect once the batch is durable.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Makes the alarm look although no fact is recorded.
    pub(super) fn wake(&mut self) {
        self.wakes = true;
    }

    /// The town's own row.
    pub(super) fn town(&mut self) -> Result<Town, Error> {
        let town = self.town.get(self.tree, &storage::TownKey {})?;
        Ok(town.ok_or(Refusal::TownNotFound)?)
    }

    pub(super) fn set_town(&mut self, town: Town) {
        self.town.set(town);
    }

    /// The scheduler's notes.
    pub(super) fn scheduler(&mut self) -> Result<Scheduler, Error> {
        let notes = self.scheduler.get(self.tree, &storage::SchedulerKey {})?;
        Ok(notes.unwrap_or_default())
    }

    pub(super) fn set_scheduler(&mut self, scheduler: Scheduler) {
        self.scheduler.set(scheduler);
    }

    /// The town's container.
    pub(super) fn container(&mut self) -> Result<ContainerLife, Error> {
        let life = self.container.get(self.tree, &storage::ContainerKey {})?;
        Ok(life.unwrap_or_default())
    }

    /// Only `container.rs` changes its state.
    pub(super) fn set_container(&mut self, life: ContainerLife) {
        self.container.set(life);
    }

    /// Stages a row that no transition reads back within its command.
    pub(super) fn put<K: Key>(&mut self, key: &K, row: &K::Row) {
        self.extra.put(key, row);
    }

    /// Stages the removal of such a row.
    pub(super) fn remove<K: Key>(&mut self, key: &K) {
        self.extra.delete(key);
    }

    pub(super) fn rig(&mut self, rig_id: RigId) -> Result<Rig, Error> {
        Ok(self
            .rigs
            .get(self.tree, rig_id)?
            .ok_or(Refusal::RigNotFound(rig_id))?)
    }

    pub(super) fn set_rig(&mut self, rig: Rig) -> Result<(), Error> {
        Ok(self.rigs.set(self.tree, rig.rig_id, Some(rig))?)
    }

    pub(super) fn remove_rig(&mut self, rig_id: RigId) -> Result<(), Error> {
        Ok(self.rigs.set(self.tree, rig_id, None)?)
    }

    pub(super) fn find_bead(&mut self, bead_id: BeadId) -> Result<Option<Bead>, Error> {
        Ok(self.beads.get(self.tree, bead_id)?)
    }

    pub(super) fn bead(&mut self, bead_id: BeadId) -> Result<Bead, Error> {
        Ok(self
            .find_bead(bead_id)?
            .ok_or(Refusal::BeadNotFound(bead_id))?)
    }

    /// The bead, if it is that rig's.
    pub(super) fn bead_of(&mut self, rig_id: RigId, bead_id: BeadId) -> Result<Bead, Error> {
        let bead = self.bead(bead_id)?;
        if bead.rig_id == Some(rig_id) {
            Ok(bead)
        } else {
            Err(Refusal::BeadNotFound(bead_id).into())
        }
    }

    pub(super) fn set_bead(&mut self, bead: Bead) -> Result<(), Error> {
        Ok(self.beads.set(self.tree, bead.bead_id, Some(bead))?)
    }

    pub(super) fn remove_bead(&mut self, bead_id: BeadId) -> Result<(), Error> {
        Ok(self.beads.set(self.tree, bead_id, None)?)
    }

    pub(super) fn find_agent(&mut self, agent_id: AgentId) -> Result<Option<Agent>, Error> {
        Ok(self.agents.get(self.tree, agent_id)?)
    }

    pub(super) fn agent(&mut self, agent_id: AgentId) -> Result<Agent, Error> {
        Ok(self
            .find_agent(agent_id)?
            .ok_or(Refusal::AgentNotFound(agent_id))?)
    }

    /// The agent, if it is that rig's.
    pub(super) fn agent_of(&mut self, rig_id: RigId, agent_id: AgentId) -> Result<Agent, Error> {
        let agent = self.agent(agent_id)?;
        if agent.rig_id == Some(rig_id) {
            Ok(agent)
        } else {
            Err(Refusal::AgentNotFound(agent_id).into())
        }
    }

    pub(super) fn set_agent(&mut self, agent: Agent) -> Result<(), Error> {
        Ok(self.agents.set(self.tree, agent.agent_id, Some(agent))?)
    }

    pub(super) fn remove_agent(&mut self, agent_id: AgentId) -> Result<(), Error> {
        Ok(self.agents.set(self.tree, agent_id, None)?)
    }

    pub(super) fn find_review(&mut self, entry_id: BeadId) -> Result<Option<Review>, Error> {
        Ok(self.reviews.get(self.tree, entry_id)?)
    }

    pub(super) fn review(&mut self, entry_id: BeadId) -> Result<Review, Error> {
        Ok(self
            .find_review(entry_id)?
            .ok_or(Refusal::ReviewNotFound(entry_id))?)
    }

    pub(super) fn set_review(&mut self, review: Review) -> Result<(), Error> {
        Ok(self.reviews.set(self.tree, review.entry_id, Some(review))?)
    }

    pub(super) fn remove_review(&mut self, entry_id: BeadId) -> Result<(), Error> {
        Ok(self.reviews.set(self.tree, entry_id, None)?)
    }

    pub(super) fn find_convoy(&mut self, convoy_id: BeadId) -> Result<Option<Convoy>, Error> {
        Ok(self.convoys.get(self.tree, convoy_id)?)
    }

    pub(super) fn convoy(&mut self, convoy_id: BeadId) -> Result<Convoy, Error> {
        Ok(self
            .find_convoy(convoy_id)?
            .ok_or(Refusal::ConvoyNotFound(convoy_id))?)
    }

    pub(super) fn set_convoy(&mut self, convoy: Convoy) -> Result<(), Error> {
        Ok(self
            .convoys
            .set(self.tree, convoy.convoy_id, Some(convoy))?)
    }

    pub(super) fn find_molecule(
        &mut self,
        molecule_id: MoleculeId,
    ) -> Result<Option<Molecule>, Error> {
        Ok(self.molecules.get(self.tree, molecule_id)?)
    }

    pub(super) fn set_molecule(&mut self, molecule: Molecule) -> Result<(), Error> {
        Ok(self
            .molecules
            .set(self.tree, molecule.molecule_id, Some(molecule))?)
    }

    pub(super) fn remove_molecule(&mut self, molecule_id: MoleculeId) -> Result<(), Error> {
        Ok(self.molecules.set(self.tree, molecule_id, None)?)
    }

    /// The beads that depend on a bead, as this draft leaves them.
    pub(super) fn dependents_of(&mut self, bead_id: BeadId) -> Result<Vec<Bead>, Error> {
        let rows = self.tree.scan(&BeadDependent::on(bead_id));
        let ids = rows
            .map(|row| row.map(|(key, _)| key.bead_id))
            .collect::<Result<Vec<_>, _>>()?;
        let mut beads = Vec::with_capacity(ids.len());
        for dependent in ids {
            beads.extend(self.find_bead(dependent)?);
        }
        beads.retain(|bead| bead.dependencies.iter().any(|to| to.on_bead_id == bead_id));
        Ok(beads)
    }

    /// The agents of a rig, oldest first, as this draft leaves them.
    pub(super) fn agents_of(&mut self, rig_id: RigId) -> Result<Vec<Agent>, Error> {
        let pointers = self.tree.scan(&AgentByRig::of_rig(rig_id));
        let ids = pointers
            .map(|row| row.map(|(_, to)| to.id))
            .collect::<Result<Vec<_>, _>>()?;
        let mut agents = Vec::with_capacity(ids.len());
        for agent_id in ids {
            agents.extend(self.find_agent(agent_id)?);
        }
        let known: Vec<AgentId> = agents.iter().map(|agent| agent.agent_id).collect();
        let new = self
            .agents
            .touched()
            .filter(|agent| agent.rig_id == Some(rig_id) && !known.contains(&agent.agent_id));
        agents.extend(new.cloned().collect::<Vec<_>>());
        agents.sort_by_key(|agent| agent.seq);
        Ok(agents)
    }

    /// Agents that had a bead on their hook or something running when the draft began, oldest first.
    pub(super) fn active_agents(&mut self) -> Result<Vec<Agent>, Error> {
        let pointers = self.tree.scan(&AgentActive::all());
        let ids = pointers
            .map(|row| row.map(|(_, to)| to.id))
            .collect::<Result<Vec<_>, _>>()?;
        let mut agents = Vec::with_capacity(ids.len());
        for agent_id in ids {
            agents.extend(self.find_agent(agent_id)?);
        }
        Ok(agents)
    }

    pub(super) fn mayor(&mut self) -> Result<Option<Agent>, Error> {
        let in_draft = self
            .agents
            .touched()
            .find(|agent| agent.role == AgentRole::Mayor)
            .cloned();
        if in_draft.is_some() {
            return Ok(in_draft);
        }
        let first = self
            .tree
            .scan(&AgentByRole::of_role(AgentRole::Mayor))
            .next();
        match first.transpose()? {
            Some((_, to)) => self.find_agent(to.id),
            None => Ok(None),
        }
    }

    pub(super) fn agent_name_taken(&mut self, name: &str) -> Result<bool, Error> {
        let key = AgentByName {
            name: name.to_owned(),
        };
        self.agent_index_taken(&key, |agent| agent.name == name)
    }

    pub(super) fn identity_taken(&mut self, identity: &str) -> Result<bool, Error> {
        let key = AgentByIdentity {
            identity: identity.to_owned(),
        };
        self.agent_index_taken(&key, |agent| agent.identity == identity)
    }

    fn agent_index_taken<K: Key<Row = Pointer<AgentId>>>(
        &mut self,
        key: &K,
        same: impl Fn(&Agent) -> bool,
    ) -> Result<bool, Error> {
        if self.agents.touched().any(&same) {
            return Ok(true);
        }
        match self.tree.get(key)? {
            Some(holder) => Ok(self
                .find_agent(holder.id)?
                .is_some_and(|agent| same(&agent))),
            None => Ok(false),
        }
    }

    pub(super) fn rig_name_taken(&self, name: &str) -> Result<bool, Error> {
        Ok(self.tree.contains(&RigByName {
            name: name.to_owned(),
        })?)
    }

    /// The beads assigned to an agent, as this draft leaves them.
    pub(super) fn beads_of_agent(&mut self, agent_id: AgentId) -> Result<Vec<Bead>, Error> {
        let pointers = self.tree.scan(&BeadByAssignee::of_agent(agent_id));
        let ids = pointers
            .map(|row| row.map(|(_, to)| to.id))
            .collect::<Result<Vec<_>, _>>()?;
        let mut beads = Vec::with_capacity(ids.len());
        for bead_id in ids {
            beads.extend(self.find_bead(bead_id)?);
        }
        beads.retain(|bead| bead.assignee_agent_id == Some(agent_id));
        Ok(beads)
    }

    /// The mail that waits for an agent, oldest first.
    pub(super) fn undelivered(&self, agent_id: AgentId) -> Result<Vec<Mail>, Error> {
        Ok(super::queries::undelivered(self.tree, agent_id)?)
    }

    pub(super) fn set_mail(&mut self, mail: &Mail) {
        rows::stage_mail(&mut self.extra, mail);
    }

    pub(super) fn remove_mail_of(&mut self, agent_id: AgentId) -> Result<(), Error> {
        for row in self.tree.scan(&MailKey::to(agent_id)) {
            rows::stage_mail_removal(&mut self.extra, &row?.1);
        }
        Ok(())
    }

    /// The merge request of a bead that is not finished, as this draft leaves it; it may also be
    /// one that this draft has finished.
    pub(super) fn review_of_source(&mut self, bead_id: BeadId) -> Result<Option<Review>, Error> {
        let in_draft = self
            .reviews
            .touched()
            .filter(|review| review.source_bead_id == bead_id)
            .max_by_key(|review| review.seq)
            .map(|review| review.entry_id);
        let entry_id = match in_draft {
            Some(entry_id) => Some(entry_id),
            None => self
                .tree
                .get(&ReviewBySource {
                    source_bead_id: bead_id,
                })?
                .map(|pointer| pointer.id),
        };
        match entry_id {
            Some(entry_id) => self.find_review(entry_id),
            None => Ok(None),
        }
    }

    /// Keeps what a merge request's gates printed, in place of what they printed before.
    pub(super) fn set_review_output(&mut self, entry_id: BeadId, output: Option<String>) {
        let output = output.map(|value| storage::Text { value });
        self.extra
            .set(&storage::ReviewOutput { entry_id }, output.as_ref());
    }

    /// The open escalation about `matter`, if there is one.
    pub(super) fn escalation_about(&mut self, matter: &str) -> Result<Option<Bead>, Error> {
        let key = EscalationFold {
            matter: matter.to_owned(),
        };
        let Some(pointer) = self.tree.get(&key)? else {
            return Ok(None);
        };
        Ok(self
            .find_bead(pointer.id)?
            .filter(|bead| !bead.status.is_terminal()))
    }

    pub(super) fn set_escalation_about(&mut self, matter: &str, bead_id: BeadId) {
        let key = EscalationFold {
            matter: matter.to_owned(),
        };
        self.extra.put(&key, &Pointer { id: bead_id });
    }

    pub(super) fn link(&self) -> Result<Option<LinkPosition>, Error> {
        Ok(self.tree.get(&LinkKey {})?)
    }

    pub(super) fn set_link(&mut self, position: LinkPosition) {
        self.extra.put(&LinkKey {}, &position);
    }

    pub(super) fn config(&self) -> Result<crate::config::TownConfig, Error> {
        super::queries::config(self.tree)
    }

    pub(super) fn set_config(&mut self, config: &crate::config::TownConfig) {
        self.extra.put(
            &storage::ConfigKey {},
            &storage::Text {
                value: config.to_json(),
            },
        );
    }

    /// Whether the bead exists in this town at all.
    pub(super) fn has_bead(&self, bead_id: BeadId) -> Result<bool, Error> {
        Ok(self.tree.contains(&BeadKey { bead_id })?)
    }
}
