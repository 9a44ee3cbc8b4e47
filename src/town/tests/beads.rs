use BeadStatus::{Closed, Failed, InProgress, Open};

use super::bench::{Bench, name};
use crate::model::{AgentId, AgentStatus, BeadStatus};
use crate::town::command::{BeadActor, NewBead};
use crate::town::effects::Effect;
use crate::town::refusal::Error;
use crate::town::{agents, beads};

fn user() -> BeadActor {
    BeadActor::User(None)
}

#[test]
fn terminal_beads_change_only_when_a_user_opens_them() {
    let mut town = Bench::new();
    for from in BeadStatus::ALL {
        for to in BeadStatus::ALL {
            for actor in [user(), BeadActor::Agent(AgentId::random())] {
                let bead_id = town.open_bead();
                town.set_status(bead_id, *from, user()).unwrap();
                let before = town.bead(bead_id);
                let reopens = *to == Open && actor == user();
                let allowed = from == to || !from.is_terminal() || reopens;
                let outcome = town.set_status(bead_id, *to, actor.clone());
                let case = format!("{from} to {to} by {actor:?}");
                match outcome {
                    Ok(bead) => {
                        assert!(allowed, "{case} was allowed");
                        assert_eq!(bead.status, *to, "{case}");
                        assert_eq!(bead.closed_at.is_some(), *to == Closed, "{case}");
                        assert_eq!(bead.failure.is_some(), *to == Failed, "{case}");
                    }
                    Err(Error::Refused(refusal)) => {
                        assert!(!allowed, "{case} was refused");
                        assert_eq!(name(&refusal), "BeadTerminal", "{case}");
                        assert_eq!(town.bead(bead_id), before, "{case}");
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
            }
        }
    }
}

#[test]
fn ending_a_hooked_bead_frees_and_stops_its_agent() {
    for status in [Closed, Failed] {
        let mut town = Bench::new();
        let (agent_id, bead_id) = town.hooked();
        assert_eq!(town.bead(bead_id).status, InProgress);
        town.set_status(bead_id, status, user()).unwrap();
        let agent = town.agent(agent_id);
        assert_eq!((agent.hook, agent.status), (None, AgentStatus::Idle));
        assert!(town.effects.contains(&Effect::StopAgent(agent_id)));
        assert!(town.facts.contains(&"bead.unhooked".to_owned()));
        assert_eq!(
            town.facts.contains(&"bead.closed".to_owned()),
            status == Closed
        );
        // And the same word again changes nothing.
        let before = town.facts.len();
        town.set_status(bead_id, status, user()).unwrap();
        assert_eq!(town.facts.len(), before);
    }
}

#[test]
fn a_hooked_bead_is_not_open() {
    let mut town = Bench::new();
    let (_, bead_id) = town.hooked();
    let refused = town.set_status(bead_id, Open, user());
    assert!(
        matches!(&refused, Err(Error::Refused(refusal)) if name(refusal) == "BeadHooked"),
        "{refused:?}"
    );
}

#[test]
fn deleting_a_hooked_bead_frees_its_agent() {
    let mut town = Bench::new();
    let (agent_id, bead_id) = town.hooked();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let refused = town.refused(|draft| beads::delete(draft, other, bead_id));
    assert_eq!(refused, "BeadNotFound");
    town.act(|draft| beads::delete(draft, rig_id, bead_id))
        .unwrap();
    assert_eq!(town.agent(agent_id).hook, None);
    assert!(town.effects.contains(&Effect::StopAgent(agent_id)));
    assert_eq!(town.refused(|draft| draft.bead(bead_id)), "BeadNotFound");
}

#[test]
fn a_bead_for_an_agent_that_cannot_take_it_is_not_made() {
    let mut town = Bench::new();
    let (busy, taken) = town.hooked();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let stranger = town
        .new_agent(other, crate::model::AgentRole::Polecat)
        .unwrap();
    let facts = town.facts.len();
    let taken = town.bead(taken);
    let new = |assignee, parent| NewBead {
        bead_type: taken.bead_type,
        title: "new".to_owned(),
        body: None,
        priority: taken.priority,
        labels: Vec::new(),
        metadata: taken.metadata.clone(),
        assignee_agent_id: assignee,
        parent_bead_id: parent,
        created_by: None,
        convoy_id: None,
        depends_on: Vec::new(),
    };
    let cases = [
        (Some(busy), None, "AgentHooked"),
        (Some(stranger), None, "AgentNotFound"),
        (Some(AgentId::random()), None, "AgentNotFound"),
        (None, Some(crate::model::BeadId::random()), "BeadNotFound"),
    ];
    for (assignee, parent, expected) in cases {
        let new = new(assignee, parent);
        let refused = town.refused(|draft| beads::create(draft, Some(rig_id), new));
        assert_eq!(refused, expected);
    }
    assert_eq!(town.facts.len(), facts, "nothing is half written");
    let free = town.polecat();
    let new = new(Some(free), Some(taken.bead_id));
    let bead = town
        .act(|draft| beads::create(draft, Some(rig_id), new))
        .unwrap();
    assert_eq!(
        (bead.status, bead.assignee_agent_id),
        (InProgress, Some(free))
    );
    assert_eq!(town.agent(free).hook, Some(bead.bead_id));
    town.act(|draft| agents::unhook(draft, rig_id, free))
        .unwrap();
    let bead = town.bead(bead.bead_id);
    assert_eq!((bead.status, bead.assignee_agent_id), (Open, None));
}
