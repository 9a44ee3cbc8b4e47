//! Clients: people and programs that send any command at any time, with ids that are right, stale,
//! of another rig or of nobody.

mod beads;
mod talk;
mod town;

use crate::model::{AgentId, AskId, BeadId, Priority, RigId};
use crate::town::command::BeadActor;

use super::random::Random;
use super::run::Simulation;
pub(super) use beads::{decide, sling_to};
pub(super) use talk::tell_mayor;
pub(super) use town::{resume, resume_everything};

/// Ids of a kind that clients remember.
const KNOWN_MAX: usize = 60;
/// More rigs, agents or unfinished beads than this make a run slow and show nothing new.
const RIGS_MAX: usize = 4;
const AGENTS_MAX: usize = 16;

/// What clients have heard of, gone or not.
#[derive(Default)]
pub(super) struct Known {
    pub(super) rigs: Vec<RigId>,
    pub(super) agents: Vec<(Option<RigId>, AgentId)>,
    pub(super) beads: Vec<(Option<RigId>, BeadId)>,
    pub(super) reviews: Vec<(RigId, BeadId)>,
    pub(super) convoys: Vec<BeadId>,
    pub(super) asks: Vec<AskId>,
    /// Made by the name and number, so that none is given twice by accident.
    names: u64,
}

type Act = fn(&mut Simulation<'_>);

/// What clients do, and how often.
const COMMANDS: &[(u64, Act)] = &[
    (30, beads::sling),
    (14, beads::create_bead),
    (16, town::hook),
    (8, town::unhook),
    (10, beads::set_status),
    (6, beads::close),
    (4, beads::delete_bead),
    (5, town::create_agent),
    (4, town::get_or_create_agent),
    (3, town::delete_agent),
    (3, town::create_rig),
    (1, town::delete_rig),
    (8, town::set_config),
    (6, talk::send_mail),
    (4, talk::nudge),
    (4, talk::check_mail),
    (4, talk::prime),
    (6, beads::submit_review),
    (5, beads::complete_review),
    (5, talk::escalate),
    (4, talk::acknowledge),
    (8, talk::tell_mayor),
    (5, beads::add_dependency),
    (3, beads::remove_dependency),
    (4, beads::create_convoy),
    (2, beads::convoy_bead_closed),
    (3, beads::create_molecule),
    (2, town::pause_town),
    (3, town::pause_rig),
    (1, town::stop_all),
    (3, town::stop_agent),
    (3, beads::retry),
    (1, town::dry_run),
    (2, talk::configure_mayor),
    (1, talk::mayor_completed),
    (1, talk::destroy_mayor),
    (3, town::start_run),
    (2, town::stop_run),
    (4, talk::message_agent),
    (8, talk::answer_ask),
];

pub(super) fn act(simulation: &mut Simulation<'_>) {
    let act = simulation.random.weighted(COMMANDS);
    act(simulation);
}

pub(super) fn remember<T: PartialEq>(known: &mut Vec<T>, new: T) {
    if known.contains(&new) {
        return;
    }
    if known.len() >= KNOWN_MAX {
        known.remove(0);
    }
    known.push(new);
}

impl Known {
    pub(super) fn rig(&self, random: &mut Random) -> RigId {
        let known = random.pick(&self.rigs).filter(|_| random.chance(97));
        known.unwrap_or_else(RigId::random)
    }

    /// Mostly a newer one: old ones are often gone.
    pub(super) fn agent(&self, random: &mut Random) -> Option<(Option<RigId>, AgentId)> {
        newer(&self.agents, random)
    }

    fn bead(&self, random: &mut Random) -> Option<(Option<RigId>, BeadId)> {
        newer(&self.beads, random)
    }

    pub(super) fn new_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}-{}", self.names)
    }
}

fn newer<T: Copy>(known: &[T], random: &mut Random) -> Option<T> {
    if random.chance(50) {
        return random.pick(&known[known.len().saturating_sub(8)..]);
    }
    random.pick(known)
}

impl Simulation<'_> {
    fn rig(&mut self) -> RigId {
        self.known.rig(&mut self.random)
    }

    /// An agent with its rig, or with another one's.
    fn agent(&mut self) -> (RigId, AgentId) {
        let agent = self.known.agent(&mut self.random);
        let (rig_id, agent_id) = agent.unwrap_or_else(|| (None, AgentId::random()));
        let rig_id = rig_id.filter(|_| self.random.chance(95));
        (rig_id.unwrap_or_else(|| self.rig()), agent_id)
    }

    fn bead_of_rig(&mut self) -> (RigId, BeadId) {
        let bead = self.known.bead(&mut self.random);
        let (rig_id, bead_id) = bead.unwrap_or_else(|| (None, BeadId::random()));
        let rig_id = rig_id.filter(|_| self.random.chance(95));
        (rig_id.unwrap_or_else(|| self.rig()), bead_id)
    }

    /// A bead of that rig, if clients know any.
    fn bead_in(&mut self, rig_id: RigId) -> BeadId {
        let beads: Vec<BeadId> = self
            .known
            .beads
            .iter()
            .filter(|(of, _)| *of == Some(rig_id))
            .map(|(_, bead_id)| *bead_id)
            .collect();
        newer(&beads, &mut self.random).unwrap_or_else(BeadId::random)
    }

    fn priority(&mut self) -> Priority {
        self.random.pick(Priority::ALL).unwrap()
    }

    fn actor(&mut self) -> BeadActor {
        match self.known.agent(&mut self.random) {
            Some((_, agent_id)) if self.random.chance(30) => BeadActor::Agent(agent_id),
            _ => BeadActor::User(None),
        }
    }
}
