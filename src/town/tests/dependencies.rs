use std::collections::BTreeMap;

use proptest::prelude::*;

use BeadStatus::{Closed, Failed, InProgress, Open};
use DependencyKind::{Blocks, Tracks};

use super::bench::{Bench, name};
use crate::model::{BeadId, BeadStatus, BeadType, Dependency, DependencyKind};
use crate::town::command::{BeadActor, NewBead};
use crate::town::refusal::Error;
use crate::town::{beads, dependencies};

impl Bench {
    fn depend(
        &mut self,
        bead_id: BeadId,
        on_bead_id: BeadId,
        kind: DependencyKind,
    ) -> Result<(), Error> {
        let (rig_id, to) = (self.rig_id, Dependency { on_bead_id, kind });
        self.act(|draft| dependencies::add(draft, rig_id, bead_id, to, None))
            .map(drop)
    }

    fn close(&mut self, bead_id: BeadId) {
        self.set_status(bead_id, Closed, BeadActor::User(None))
            .unwrap();
    }

    fn is_ready(&mut self, bead_id: BeadId) -> bool {
        self.bead(bead_id).is_ready()
    }
}

#[test]
fn a_bead_is_ready_when_all_that_blocks_it_is_closed() {
    let mut town = Bench::new();
    let [first, second, followed, last] = [(); 4].map(|()| town.open_bead());
    town.depend(last, first, Blocks).unwrap();
    town.depend(last, second, Blocks).unwrap();
    town.depend(last, followed, Tracks).unwrap();
    assert!(!town.is_ready(last));
    let polecat = town.polecat();
    let refused = town.hook(polecat, last);
    assert!(
        matches!(&refused, Err(Error::Refused(refusal)) if name(refusal) == "BeadBlocked"),
        "{refused:?}"
    );

    town.close(first);
    assert!(!town.is_ready(last));
    assert!(!town.facts.contains(&"bead.unblocked".to_owned()));
    town.close(second);
    assert!(
        town.is_ready(last),
        "what is only followed holds up nothing"
    );
    let unblocked = town.facts.iter().filter(|fact| *fact == "bead.unblocked");
    assert_eq!(unblocked.count(), 1);
    town.hook(polecat, last).unwrap();
}

#[test]
fn a_failed_blocker_blocks_on_and_says_so() {
    let mut town = Bench::new();
    let (blocker, bead) = (town.open_bead(), town.open_bead());
    town.depend(bead, blocker, Blocks).unwrap();
    let user = BeadActor::User(None);
    town.set_status(blocker, Failed, user.clone()).unwrap();
    assert!(!town.is_ready(bead));
    assert!(town.facts.contains(&"bead.blocker_failed".to_owned()));
    // Reopened and closed after all.
    town.set_status(blocker, Open, user).unwrap();
    assert!(!town.is_ready(bead));
    town.close(blocker);
    assert!(town.is_ready(bead));
}

#[test]
fn a_reopened_blocker_blocks_again() {
    let mut town = Bench::new();
    let (blocker, bead) = (town.open_bead(), town.open_bead());
    town.close(blocker);
    town.depend(bead, blocker, Blocks).unwrap();
    assert!(town.is_ready(bead), "a closed one has nothing to wait for");
    town.set_status(blocker, Open, BeadActor::User(None))
        .unwrap();
    assert!(!town.is_ready(bead));
    assert!(town.facts.contains(&"bead.blocked".to_owned()));
}

#[test]
fn what_is_deleted_or_taken_away_blocks_no_more() {
    let mut town = Bench::new();
    let [gone, taken, bead] = [(); 3].map(|()| town.open_bead());
    town.depend(bead, gone, Blocks).unwrap();
    town.depend(bead, taken, Blocks).unwrap();
    let rig_id = town.rig_id;
    town.act(|draft| beads::delete(draft, rig_id, gone))
        .unwrap();
    assert_eq!(town.bead(bead).blockers_open, 1);
    town.act(|draft| dependencies::remove(draft, rig_id, bead, taken, None))
        .unwrap();
    let left = town.bead(bead);
    assert!(left.is_ready() && left.dependencies.is_empty());
    let again = town.refused(|draft| dependencies::remove(draft, rig_id, bead, taken, None));
    assert_eq!(again, "DependencyNotFound");
}

#[test]
fn no_more_beads_hang_together_than_can_be_looked_through() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let bead_id = town.open_bead();
    let mut on = || town.open_bead();
    let others: Vec<BeadId> = (0..=dependencies::DEPENDENCIES_MAX).map(|_| on()).collect();
    let (last, rest) = others.split_last().unwrap();
    town.act(|draft| {
        for other in rest {
            let to = Dependency {
                on_bead_id: *other,
                kind: Blocks,
            };
            dependencies::add(draft, rig_id, bead_id, to, None)?;
        }
        Ok(())
    })
    .unwrap();
    let to = Dependency {
        on_bead_id: *last,
        kind: Blocks,
    };
    let refused = town.refused(|draft| dependencies::add(draft, rig_id, bead_id, to, None));
    assert_eq!(refused, "TooManyDependencies");
}

#[test]
fn what_can_not_be_depended_on_is_refused() {
    let mut town = Bench::new();
    let (rig_id, other_rig) = (town.rig_id, town.other_rig_id);
    let [first, second, third] = [(); 3].map(|()| town.open_bead());
    let foreign = town.new_bead(other_rig);
    let closed = town.open_bead();
    town.close(closed);
    town.depend(second, first, Blocks).unwrap();
    town.depend(third, second, Tracks).unwrap();
    let cases = [
        (first, first, "DependencyCycle"),
        (first, second, "DependencyCycle"),
        (first, third, "DependencyCycle"),
        (second, first, "DependencyExists"),
        (first, foreign, "BeadNotFound"),
        (foreign, first, "BeadNotFound"),
        (first, BeadId::random(), "BeadNotFound"),
        (closed, first, "BeadTerminal"),
    ];
    for (bead_id, on_bead_id, expected) in cases {
        let to = Dependency {
            on_bead_id,
            kind: Blocks,
        };
        let refused = town.refused(|draft| dependencies::add(draft, rig_id, bead_id, to, None));
        assert_eq!(refused, expected, "{bead_id} on {on_bead_id}");
    }
}

#[test]
fn a_new_bead_may_wait_for_others_from_the_beginning() {
    let mut town = Bench::new();
    let (rig_id, blocker) = (town.rig_id, town.open_bead());
    let polecat = town.polecat();
    let new = |assignee_agent_id| NewBead {
        depends_on: vec![blocker],
        assignee_agent_id,
        ..NewBead::of(BeadType::Issue, "later".to_owned())
    };
    let refused = town.refused(|draft| beads::create(draft, Some(rig_id), new(Some(polecat))));
    assert_eq!(refused, "BeadBlocked");
    let bead = town
        .act(|draft| beads::create(draft, Some(rig_id), new(None)))
        .unwrap();
    assert_eq!((bead.status, bead.is_ready()), (Open, false));
    town.close(blocker);
    town.hook(polecat, bead.bead_id).unwrap();
    assert_eq!(town.bead(bead.bead_id).status, InProgress);
}

/// Something that is done to beads 0 to 7.
#[derive(Clone, Debug)]
enum Step {
    Depend(usize, usize, DependencyKind),
    Forget(usize, usize),
    Set(usize, BeadStatus),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let bead = || 0_usize..8;
    let status = prop::sample::select(BeadStatus::ALL);
    prop_oneof![
        4 => (bead(), bead(), prop::bool::weighted(0.8)).prop_map(|(from, to, blocks)| {
            Step::Depend(from, to, if blocks { Blocks } else { Tracks })
        }),
        1 => (bead(), bead()).prop_map(|(from, to)| Step::Forget(from, to)),
        3 => (bead(), status).prop_map(|(bead, status)| Step::Set(bead, status)),
        1 => bead().prop_map(Step::Delete),
    ]
}

type Edges = BTreeMap<(usize, usize), DependencyKind>;

fn has_path(edges: &Edges, from: usize, to: usize) -> bool {
    from == to || {
        let next = edges.keys().filter(|(start, _)| *start == from);
        next.clone().any(|(_, end)| has_path(edges, *end, to))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a plain model: exactly the edges that close a cycle are refused, and a bead is
    /// ready exactly when no bead that blocks it is open.
    #[test]
    fn no_cycle_ever_stands_and_ready_is_what_it_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let ids: Vec<BeadId> = (0..8).map(|_| town.open_bead()).collect();
        let mut statuses: Vec<Option<BeadStatus>> = vec![Some(Open); 8];
        let mut edges = Edges::new();
        for step in steps {
            match step {
                Step::Depend(from, to, kind) => {
                    let sound = statuses[from].is_some_and(|status| !status.is_terminal())
                        && statuses[to].is_some()
                        && !edges.contains_key(&(from, to))
                        && !has_path(&edges, to, from);
                    let done = town.depend(ids[from], ids[to], kind);
                    prop_assert_eq!(done.is_ok(), sound, "{} on {}: {:?}", from, to, done);
                    if sound {
                        edges.insert((from, to), kind);
                    }
                }
                Step::Forget(from, to) => {
                    let (bead, on) = (ids[from], ids[to]);
                    let known = edges.remove(&(from, to)).is_some();
                    let done = town.act(|draft| dependencies::remove(draft, rig_id, bead, on, None));
                    prop_assert_eq!(done.is_ok(), known);
                }
                Step::Set(bead, status) => {
                    if town.set_status(ids[bead], status, BeadActor::User(None)).is_ok() {
                        statuses[bead] = Some(status);
                    }
                }
                Step::Delete(bead) => {
                    let bead_id = ids[bead];
                    if town.act(|draft| beads::delete(draft, rig_id, bead_id)).is_ok() {
                        statuses[bead] = None;
                        edges.retain(|(from, to), _| *from != bead && *to != bead);
                    }
                }
            }
            for (from, bead_id) in ids.iter().enumerate() {
                if statuses[from].is_none() {
                    continue;
                }
                let blockers = edges.iter().filter(|((start, end), kind)| {
                    *start == from && **kind == Blocks && statuses[*end] != Some(Closed)
                });
                let bead = town.bead(*bead_id);
                prop_assert_eq!(bead.blockers_open as usize, blockers.count());
                let known = edges.keys().filter(|(start, _)| *start == from).count();
                prop_assert_eq!(bead.dependencies.len(), known);
            }
        }
    }
}
