//! What is done to beads.

use crate::model::{
    BeadId, BeadStatus, BeadType, Dependency, DependencyKind, Json, MoleculeStep, RigId,
};
use crate::town::command::{
    Command, NewBead, NewConvoy, NewReview, ReviewOutcome, SlingOrder, StatusChange,
};
use crate::town::tests::simulation::run::Simulation;

use super::newer;

pub(super) fn sling(simulation: &mut Simulation<'_>) {
    let rig_id = simulation.rig();
    sling_to(simulation, rig_id);
}

pub(in crate::town::tests::simulation) fn sling_to(simulation: &mut Simulation<'_>, rig_id: RigId) {
    let order = SlingOrder {
        title: "work".to_owned(),
        body: None,
        priority: simulation.priority(),
        metadata: Json::empty_object(),
        created_by: None,
    };
    simulation.request("sling", move |reply| {
        Command::Sling(rig_id, order.clone(), reply)
    });
}

fn new_bead(simulation: &mut Simulation<'_>) -> NewBead {
    let bead_type = simulation.random.weighted(&[
        (8, BeadType::Issue),
        (1, BeadType::Message),
        (1, BeadType::Escalation),
        (1, BeadType::Molecule),
    ]);
    let parent = simulation.known.bead(&mut simulation.random);
    let assignee = simulation.known.agent(&mut simulation.random);
    let (is_child, is_given) = (simulation.random.chance(15), simulation.random.chance(20));
    let (travels, waits) = (simulation.random.chance(15), simulation.random.chance(15));
    let convoy = simulation.random.pick(&simulation.known.convoys);
    let blocker = simulation.known.bead(&mut simulation.random);
    let blocker = blocker.map(|(_, bead)| bead);
    NewBead {
        bead_type,
        title: "a bead".to_owned(),
        body: Some("text".to_owned()),
        priority: simulation.priority(),
        labels: vec!["label".to_owned()],
        metadata: Json::empty_object(),
        assignee_agent_id: assignee.filter(|_| is_given).map(|(_, agent)| agent),
        parent_bead_id: parent.filter(|_| is_child).map(|(_, bead)| bead),
        created_by: None,
        convoy_id: convoy.filter(|_| travels),
        depends_on: blocker.filter(|_| waits).into_iter().collect(),
    }
}

pub(super) fn create_bead(simulation: &mut Simulation<'_>) {
    let (rig_id, new) = (simulation.rig(), new_bead(simulation));
    simulation.request("create bead", move |reply| {
        Command::CreateBead(rig_id, new.clone(), reply)
    });
}

fn change_status(simulation: &mut Simulation<'_>, status: BeadStatus) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    let actor = simulation.actor();
    simulation.note(format!("{} to {status} by {actor:?}", bead_id.short()));
    if status == BeadStatus::InProgress {
        simulation.checks.taken_by_hand(bead_id);
    }
    simulation.request("set status", move |reply| {
        Command::SetBeadStatus(
            rig_id,
            bead_id,
            StatusChange {
                status,
                actor: actor.clone(),
            },
            reply,
        )
    });
}

pub(super) fn set_status(simulation: &mut Simulation<'_>) {
    let status = simulation.random.pick(BeadStatus::ALL).unwrap();
    change_status(simulation, status);
}

pub(super) fn close(simulation: &mut Simulation<'_>) {
    change_status(simulation, BeadStatus::Closed);
}

pub(super) fn delete_bead(simulation: &mut Simulation<'_>) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    simulation.note(format!("delete {}", bead_id.short()));
    simulation.request("delete bead", move |reply| {
        Command::DeleteBead(rig_id, bead_id, reply)
    });
}

pub(super) fn submit_review(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    let new = NewReview {
        agent_id,
        bead_id: simulation.bead_in(rig_id),
        branch: "gt/by-hand".to_owned(),
        pr_url: None,
        summary: None,
    };
    simulation.note(format!("review of {}", new.bead_id.short()));
    simulation.request("submit review", move |reply| {
        Command::SubmitReview(rig_id, new.clone(), reply)
    });
}

pub(super) fn complete_review(simulation: &mut Simulation<'_>) {
    use crate::model::ReviewStatus::{Conflict, Failed, Merged};
    let review = newer(&simulation.known.reviews, &mut simulation.random);
    let (rig_id, entry_id) = review.unwrap_or_else(|| (simulation.rig(), BeadId::random()));
    let outcome = ReviewOutcome {
        status: simulation.random.pick(&[Merged, Failed, Conflict]).unwrap(),
        message: "by hand".to_owned(),
        commit_sha: None,
    };
    let looked_at = (simulation.random).chance(5).then(|| "commit-0".to_owned());
    simulation.note(format!("review {} is {}", entry_id.short(), outcome.status));
    simulation.request("complete review", move |reply| {
        Command::CompleteReview(rig_id, entry_id, outcome.clone(), looked_at.clone(), reply)
    });
}

/// A person sees a merge request that waits for people, and decides.
pub(in crate::town::tests::simulation) fn decide(
    simulation: &mut Simulation<'_>,
    rig_id: RigId,
    entry_id: BeadId,
) {
    use crate::model::ReviewStatus::{Conflict, Failed, Merged};
    let outcome = ReviewOutcome {
        status: (simulation.random).weighted(&[(7, Merged), (2, Conflict), (1, Failed)]),
        message: "a person's word".to_owned(),
        commit_sha: None,
    };
    simulation.note(format!(
        "a person says {} of {}",
        outcome.status,
        entry_id.short()
    ));
    simulation.request("complete review", move |reply| {
        Command::CompleteReview(rig_id, entry_id, outcome.clone(), None, reply)
    });
}

pub(super) fn add_dependency(simulation: &mut Simulation<'_>) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    let dependency = Dependency {
        on_bead_id: simulation.bead_in(rig_id),
        kind: simulation.random.pick(DependencyKind::ALL).unwrap(),
    };
    simulation.note(format!(
        "{} depends on {}",
        bead_id.short(),
        dependency.on_bead_id.short()
    ));
    simulation.request("add dependency", move |reply| {
        Command::AddDependency(rig_id, bead_id, dependency, None, reply)
    });
}

pub(super) fn remove_dependency(simulation: &mut Simulation<'_>) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    let on = simulation.bead_in(rig_id);
    simulation.request("remove dependency", move |reply| {
        Command::RemoveDependency(rig_id, bead_id, on, None, reply)
    });
}

pub(super) fn create_convoy(simulation: &mut Simulation<'_>) {
    let count = simulation.random.between(1, 3);
    let new = NewConvoy {
        title: "a convoy".to_owned(),
        beads: (0..count)
            .map(|_| simulation.bead_of_rig())
            .map(|(rig_id, bead_id)| (bead_id, rig_id))
            .collect(),
        created_by: None,
    };
    simulation.request("create convoy", move |reply| {
        Command::CreateConvoy(new.clone(), reply)
    });
}

pub(super) fn convoy_bead_closed(simulation: &mut Simulation<'_>) {
    let convoy_id = simulation.random.pick(&simulation.known.convoys);
    let convoy_id = convoy_id.unwrap_or_else(BeadId::random);
    let (_, bead_id) = simulation.bead_of_rig();
    simulation.request("convoy bead closed", move |reply| {
        Command::ConvoyBeadClosed(convoy_id, bead_id, reply)
    });
}

pub(super) fn create_molecule(simulation: &mut Simulation<'_>) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    let count = simulation.random.between(1, 3);
    let steps: Vec<MoleculeStep> = (0..count)
        .map(|step| MoleculeStep {
            title: format!("step {step}"),
            instructions: "do it".to_owned(),
            summary: None,
        })
        .collect();
    simulation.request("create molecule", move |reply| {
        Command::CreateMolecule(rig_id, bead_id, steps.clone(), reply)
    });
}

pub(super) fn retry(simulation: &mut Simulation<'_>) {
    let (rig_id, bead_id) = simulation.bead_of_rig();
    simulation.note(format!("retry {}", bead_id.short()));
    simulation.request("retry", move |reply| {
        Command::Retry(rig_id, bead_id, None, reply)
    });
}
