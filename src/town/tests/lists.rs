use super::bench::Bench;
use crate::model::{Bead, BeadId, BeadStatus, BeadType};
use crate::storage::ROWS_READ;
use crate::town::bead_lists::{self, BeadFilter};
use crate::town::command::{BeadActor, NewBead, NewConvoy};
use crate::town::{Page, beads, convoys};

const USER: BeadActor = BeadActor::User(None);

fn list(town: &Bench, filter: &BeadFilter, limit: usize, offset: usize) -> Vec<Bead> {
    bead_lists::beads(&town.tree, town.rig_id, filter, Page { limit, offset }).unwrap()
}

fn bead(town: &mut Bench, new: NewBead) -> BeadId {
    let rig_id = town.rig_id;
    let made = town.act(|draft| beads::create(draft, Some(rig_id), new));
    made.unwrap().bead_id
}

fn filters(town: &mut Bench) -> Vec<(&'static str, BeadFilter, usize)> {
    let (agent, _) = town.hooked();
    let parent = town.open_bead();
    let part = NewBead {
        parent_bead_id: Some(parent),
        ..NewBead::of(BeadType::Message, "part".to_owned())
    };
    let part = bead(town, part);
    let rig_id = town.rig_id;
    let new = NewConvoy {
        title: "c".to_owned(),
        beads: vec![(part, rig_id)],
        created_by: None,
    };
    let convoy = town.act(|draft| convoys::create(draft, new)).unwrap();
    let failed = town.open_bead();
    town.set_status(failed, BeadStatus::Failed, USER).unwrap();
    let later = NewBead {
        depends_on: vec![parent],
        ..NewBead::of(BeadType::Issue, "later".to_owned())
    };
    bead(town, later);
    let none = BeadFilter::default;
    vec![
        (
            "assignee",
            BeadFilter {
                assignee: Some(agent),
                ..none()
            },
            1,
        ),
        (
            "parent",
            BeadFilter {
                parent: Some(parent),
                ..none()
            },
            1,
        ),
        (
            "convoy",
            BeadFilter {
                convoy: Some(convoy.convoy.convoy_id),
                ..none()
            },
            1,
        ),
        (
            "failed",
            BeadFilter {
                status: Some(BeadStatus::Failed),
                ..none()
            },
            1,
        ),
        (
            "message",
            BeadFilter {
                bead_type: Some(BeadType::Message),
                ..none()
            },
            1,
        ),
        (
            "ready",
            BeadFilter {
                ready: Some(true),
                ..none()
            },
            2,
        ),
        (
            "open issue",
            BeadFilter {
                status: Some(BeadStatus::Open),
                bead_type: Some(BeadType::Issue),
                ..none()
            },
            2,
        ),
        (
            "blocked",
            BeadFilter {
                ready: Some(false),
                bead_type: Some(BeadType::Issue),
                ..none()
            },
            1,
        ),
    ]
}

#[test]
fn every_list_holds_what_it_should_and_costs_what_it_answers() {
    let mut costs: Vec<Vec<u64>> = Vec::new();
    for closed in [5, 100] {
        let mut town = Bench::new();
        for _ in 0..closed {
            let bead_id = town.open_bead();
            town.set_status(bead_id, BeadStatus::Closed, USER).unwrap();
        }
        let mut cost = Vec::new();
        for (what, filter, expected) in filters(&mut town) {
            let before = ROWS_READ.get();
            let beads = list(&town, &filter, 100, 0);
            cost.push(ROWS_READ.get() - before);
            assert_eq!(beads.len(), expected, "{what}: {beads:?}");
        }
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1], "rows read do not depend on the rest");
}

#[test]
fn pages_are_newest_first_and_skip_without_reading_beads() {
    let mut town = Bench::new();
    let mut made = Vec::new();
    for at in 0..30 {
        let bead_type = [BeadType::Issue, BeadType::Message, BeadType::Molecule][at % 3];
        let bead_id = bead(&mut town, NewBead::of(bead_type, at.to_string()));
        if at % 2 == 0 {
            town.set_status(bead_id, BeadStatus::Closed, USER).unwrap();
            made.push(bead_id);
        }
    }
    made.reverse();
    let closed = BeadFilter {
        status: Some(BeadStatus::Closed),
        ..BeadFilter::default()
    };
    let mut listed = Vec::new();
    for offset in [0, 4, 8, 12, 16] {
        let page = list(&town, &closed, 4, offset);
        listed.extend(page.iter().map(|bead| bead.bead_id));
    }
    assert_eq!(listed, made);
    let cost = |offset| {
        let before = ROWS_READ.get();
        list(&town, &closed, 1, offset);
        ROWS_READ.get() - before
    };
    // An index row for each that is left out, and no bead.
    assert_eq!(cost(10) - cost(0), 10);
}
