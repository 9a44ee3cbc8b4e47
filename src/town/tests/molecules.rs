use BeadStatus::{Closed, Failed, Open};

use super::bench::Bench;
use crate::model::{AgentId, BeadId, BeadStatus, Molecule, MoleculeStatus, MoleculeStep};
use crate::town::command::{Advanced, AgentDone, BeadActor};
use crate::town::{agents, beads, molecules};

fn steps() -> Vec<MoleculeStep> {
    let step = |title: &str| MoleculeStep {
        title: title.to_owned(),
        instructions: "do it".to_owned(),
        summary: None,
    };
    ["one", "two"].map(step).to_vec()
}

impl Bench {
    fn molecule(&mut self, bead_id: BeadId) -> Molecule {
        let rig_id = self.rig_id;
        self.act(|draft| molecules::create(draft, rig_id, bead_id, steps()))
            .unwrap()
    }

    fn molecule_now(&mut self, bead_id: BeadId) -> Option<Molecule> {
        self.act(|draft| {
            let bead = draft.bead(bead_id)?;
            molecules::of_bead(draft, &bead)
        })
        .unwrap()
    }

    fn advance(&mut self, agent_id: AgentId, summary: &str) -> Option<Advanced> {
        let (rig_id, summary) = (self.rig_id, summary.to_owned());
        self.act(|draft| molecules::advance(draft, rig_id, agent_id, summary))
            .unwrap()
    }
}

fn done() -> AgentDone {
    AgentDone {
        branch: "gt/x".to_owned(),
        pr_url: None,
        summary: None,
    }
}

#[test]
fn steps_are_done_in_order_and_the_last_one_completes() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, bead_id) = town.hooked();
    assert!(town.advance(agent_id, "nothing yet").is_none());
    town.molecule(bead_id);
    let refused = town.refused(|draft| agents::done(draft, rig_id, agent_id, done()));
    assert_eq!(refused, "MoleculeUnfinished");
    let first = town.advance(agent_id, "painted").unwrap();
    assert_eq!((first.previous_step, first.molecule.current_step), (0, 1));
    assert_eq!(first.molecule.step().unwrap().title, "two");
    // Given back and taken up by another one, it goes on where it was.
    town.act(|draft| agents::unhook(draft, rig_id, agent_id))
        .unwrap();
    assert!(town.advance(agent_id, "not mine").is_none());
    let other = town.polecat();
    town.hook(other, bead_id).unwrap();
    let refused = town.refused(|draft| {
        let change = crate::town::StatusChange {
            status: Closed,
            actor: BeadActor::Agent(other),
        };
        beads::set_status(draft, rig_id, bead_id, change)
    });
    assert_eq!(refused, "MoleculeUnfinished");
    let last = town.advance(other, "dried").unwrap().molecule;
    assert_eq!(last.status, MoleculeStatus::Completed);
    let said: Vec<_> = last
        .steps
        .iter()
        .map(|step| step.summary.as_deref())
        .collect();
    assert_eq!(said, [Some("painted"), Some("dried")]);
    assert!(town.facts.contains(&"molecule.completed".to_owned()));
    let refused =
        town.refused(|draft| molecules::advance(draft, rig_id, other, "more".to_owned()).map(drop));
    assert_eq!(refused, "MoleculeFinished");
    town.act(|draft| agents::done(draft, rig_id, other, done()))
        .unwrap();
}

#[test]
fn it_fails_with_its_bead_and_goes_on_with_it() {
    let mut town = Bench::new();
    for status in [Failed, Closed] {
        let (agent_id, bead_id) = town.hooked();
        town.molecule(bead_id);
        town.advance(agent_id, "first").unwrap();
        let user = BeadActor::User(None);
        town.set_status(bead_id, status, user.clone()).unwrap();
        let failed = town.molecule_now(bead_id).unwrap();
        assert_eq!(failed.status, MoleculeStatus::Failed, "{status}");
        town.set_status(bead_id, Open, user).unwrap();
        let resumed = town.molecule_now(bead_id).unwrap();
        let expected = (MoleculeStatus::Active, 1);
        assert_eq!((resumed.status, resumed.current_step), expected);
    }
}

#[test]
fn a_bead_has_one_molecule_at_a_time() {
    let mut town = Bench::new();
    let (rig_id, other_rig) = (town.rig_id, town.other_rig_id);
    let (agent_id, bead_id) = town.hooked();
    let first = town.molecule(bead_id);
    let refused = town.refused(|draft| molecules::create(draft, rig_id, bead_id, steps()));
    assert_eq!(refused, "MoleculeExists");
    let refused = town.refused(|draft| molecules::create(draft, other_rig, bead_id, steps()));
    assert_eq!(refused, "BeadNotFound");
    for _ in 0..2 {
        town.advance(agent_id, "s").unwrap();
    }
    let second = town.molecule(bead_id);
    assert_ne!(first.molecule_id, second.molecule_id);
    let gone = town.act(|draft| draft.find_molecule(first.molecule_id));
    assert_eq!(gone.unwrap(), None);
    town.act(|draft| beads::delete(draft, rig_id, bead_id))
        .unwrap();
    let gone = town.act(|draft| draft.find_molecule(second.molecule_id));
    assert_eq!(gone.unwrap(), None);
    let closed = town.open_bead();
    town.set_status(closed, Closed, BeadActor::User(None))
        .unwrap();
    let refused = town.refused(|draft| molecules::create(draft, rig_id, closed, steps()));
    assert_eq!(refused, "BeadTerminal");
}
