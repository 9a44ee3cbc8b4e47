use proptest::prelude::*;

use BeadStatus::{Closed, Failed, InProgress, Open};

use super::bench::{Bench, name};
use crate::model::{BeadId, BeadStatus, BeadType, RigId};
use crate::town::command::{BeadActor, CompletedStatus, ConvoyState, NewBead, NewConvoy};
use crate::town::refusal::{Error, Refusal};
use crate::town::{agents, beads, convoys, reviews, rigs};

impl Bench {
    pub(super) fn convoy(&mut self, beads: &[(BeadId, RigId)]) -> Result<ConvoyState, Error> {
        let new = NewConvoy {
            title: "together".to_owned(),
            beads: beads.to_vec(),
            created_by: Some("me".to_owned()),
        };
        self.act(|draft| convoys::create(draft, new))
    }

    fn landings(&self) -> usize {
        let landed = self.facts.iter().filter(|fact| *fact == "convoy.landed");
        landed.count()
    }

    /// Total, closed and failed beads, and whether it has landed.
    fn progress(&mut self, convoy_id: BeadId) -> (u32, u32, u32, bool) {
        let convoy = self.act(|draft| draft.convoy(convoy_id)).unwrap();
        let landed = convoy.landed_at.is_some();
        let status = self.bead(convoy_id).status;
        assert_eq!(landed, status == Closed, "the convoy's bead is {status}");
        (convoy.total, convoy.closed, convoy.failed, landed)
    }
}

const USER: BeadActor = BeadActor::User(None);

#[test]
fn a_convoy_over_several_rigs_lands_once_with_its_last_bead() {
    let mut town = Bench::new();
    let (rig_id, other_rig) = (town.rig_id, town.other_rig_id);
    let mayor = town.act(agents::mayor).unwrap().agent_id;
    let (one, two) = (town.open_bead(), town.new_bead(other_rig));
    let state = town.convoy(&[(one, rig_id), (two, other_rig)]).unwrap();
    let convoy_id = state.convoy.convoy_id;
    assert_eq!(town.progress(convoy_id), (2, 0, 0, false));
    town.set_status(one, Closed, USER).unwrap();
    assert_eq!(town.progress(convoy_id), (2, 1, 0, false));
    let change = crate::town::StatusChange {
        status: Closed,
        actor: USER,
    };
    town.act(|draft| beads::set_status(draft, other_rig, two, change))
        .unwrap();
    assert_eq!(town.progress(convoy_id), (2, 2, 0, true));
    assert_eq!(town.landings(), 1);
    let mail = town.act(|draft| draft.undelivered(mayor)).unwrap();
    assert_eq!(mail.len(), 1);
    assert!(mail[0].subject.contains("together"), "{mail:?}");
    // Saying it again, and looking again, change nothing.
    for _ in 0..2 {
        let told = town
            .act(|draft| convoys::bead_closed(draft, convoy_id, one))
            .unwrap();
        assert!(told.convoy.landed_at.is_some());
        town.act(|draft| convoys::land_if_due(draft, convoy_id))
            .unwrap();
    }
    assert_eq!(town.landings(), 1);
    assert_eq!(town.act(|draft| draft.undelivered(mayor)).unwrap().len(), 1);
}

#[test]
fn it_lands_however_the_last_bead_ends() {
    // Each way closes, or takes away, the bead that is on the agent's hook.
    type Way = fn(&mut Bench, RigId, crate::model::AgentId, BeadId);
    let ways: [(&str, Way); 4] = [
        ("completed", |town, rig_id, agent_id, _| {
            let done = CompletedStatus::Completed;
            town.act(|draft| agents::completed(draft, rig_id, agent_id, done, None))
                .unwrap();
        }),
        ("merged", |town, rig_id, agent_id, bead_id| {
            let done = crate::town::AgentDone {
                branch: "gt/x".to_owned(),
                pr_url: None,
                summary: None,
            };
            town.act(|draft| agents::done(draft, rig_id, agent_id, done))
                .unwrap();
            let entry = town.act(|draft| reviews::unfinished(draft, bead_id));
            let entry_id = entry.unwrap().unwrap().entry_id;
            let outcome = crate::town::ReviewOutcome {
                status: crate::model::ReviewStatus::Merged,
                message: "ok".to_owned(),
                commit_sha: None,
            };
            town.act(|draft| {
                let review = reviews::open_review(draft, rig_id, entry_id)?;
                reviews::end(draft, review, outcome)
            })
            .unwrap();
        }),
        ("closed by its agent", |town, _, agent_id, bead_id| {
            town.set_status(bead_id, Closed, BeadActor::Agent(agent_id))
                .unwrap();
        }),
        ("deleted", |town, rig_id, _, bead_id| {
            town.act(|draft| beads::delete(draft, rig_id, bead_id))
                .unwrap();
        }),
    ];
    for (way, end) in ways {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let closed = town.open_bead();
        let (agent_id, bead_id) = town.hooked();
        let state = town.convoy(&[(closed, rig_id), (bead_id, rig_id)]).unwrap();
        town.set_status(closed, Closed, USER).unwrap();
        assert_eq!(town.landings(), 0, "{way}");
        end(&mut town, rig_id, agent_id, bead_id);
        let total = if way == "deleted" { 1 } else { 2 };
        let expected = (total, total, 0, true);
        assert_eq!(town.progress(state.convoy.convoy_id), expected, "{way}");
        assert_eq!(town.landings(), 1, "{way}");
    }
}

#[test]
fn a_failed_bead_keeps_it_from_landing_and_shows() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (good, bad) = (town.open_bead(), town.open_bead());
    let state = town.convoy(&[(good, rig_id), (bad, rig_id)]).unwrap();
    let convoy_id = state.convoy.convoy_id;
    town.set_status(bad, Failed, USER).unwrap();
    town.set_status(good, Closed, USER).unwrap();
    assert_eq!(town.progress(convoy_id), (2, 1, 1, false));
    town.set_status(bad, Open, USER).unwrap();
    assert_eq!(town.progress(convoy_id), (2, 1, 0, false));
    town.set_status(bad, Closed, USER).unwrap();
    assert_eq!(town.progress(convoy_id), (2, 2, 0, true));
}

#[test]
fn what_has_landed_stays_landed_and_holds_no_open_work() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (one, two) = (town.open_bead(), town.open_bead());
    let state = town.convoy(&[(one, rig_id), (two, rig_id)]).unwrap();
    let convoy_id = state.convoy.convoy_id;
    for bead_id in [one, two] {
        town.set_status(bead_id, Closed, USER).unwrap();
    }
    town.set_status(one, Open, USER).unwrap();
    assert_eq!(town.bead(one).convoy_id, None);
    assert_eq!(town.progress(convoy_id), (1, 1, 0, true));
    town.set_status(one, Closed, USER).unwrap();
    assert_eq!((town.landings(), town.progress(convoy_id).3), (1, true));
    let new = NewBead {
        convoy_id: Some(convoy_id),
        ..NewBead::of(BeadType::Issue, "late".to_owned())
    };
    let refused = town.refused(|draft| beads::create(draft, Some(rig_id), new));
    assert_eq!(refused, "ConvoyLanded");
}

#[test]
fn a_rig_that_is_deleted_takes_its_beads_out_of_the_convoy() {
    let mut town = Bench::new();
    let (rig_id, other_rig) = (town.rig_id, town.other_rig_id);
    let (one, two) = (town.open_bead(), town.new_bead(other_rig));
    let state = town.convoy(&[(one, rig_id), (two, other_rig)]).unwrap();
    town.set_status(one, Closed, USER).unwrap();
    town.act(|draft| rigs::delete(draft, other_rig)).unwrap();
    let convoy_id = state.convoy.convoy_id;
    assert_eq!(town.progress(convoy_id), (1, 1, 0, true));
}

#[test]
fn a_full_convoy_takes_no_more() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let new = |number: usize| NewBead::of(BeadType::Issue, format!("bead {number}"));
    let all = town.act(|draft| {
        (0..convoys::CONVOY_BEADS_MAX)
            .map(|number| Ok(beads::create(draft, Some(rig_id), new(number))?.bead_id))
            .collect::<Result<Vec<_>, Error>>()
    });
    let members: Vec<_> = all.unwrap().into_iter().map(|id| (id, rig_id)).collect();
    let convoy_id = town.convoy(&members).unwrap().convoy.convoy_id;
    let refused = town.refused(|draft| {
        let new = NewBead {
            convoy_id: Some(convoy_id),
            ..new(0)
        };
        beads::create(draft, Some(rig_id), new)
    });
    assert_eq!(refused, "ConvoyFull");
}

#[test]
fn what_does_not_fit_makes_no_convoy() {
    let mut town = Bench::new();
    let (rig_id, other_rig) = (town.rig_id, town.other_rig_id);
    let [bead, taken, closed] = [(); 3].map(|()| town.open_bead());
    let foreign = town.new_bead(other_rig);
    town.set_status(closed, Closed, USER).unwrap();
    let convoy_id = town.convoy(&[(taken, rig_id)]).unwrap().convoy.convoy_id;
    let facts = town.facts.len();
    let cases = [
        (vec![], "Invalid"),
        (vec![(bead, rig_id), (bead, rig_id)], "Invalid"),
        (vec![(bead, rig_id), (taken, rig_id)], "BeadInConvoy"),
        (vec![(bead, rig_id), (closed, rig_id)], "BeadTerminal"),
        (vec![(bead, rig_id), (foreign, rig_id)], "BeadNotFound"),
        (vec![(bead, rig_id), (convoy_id, rig_id)], "BeadNotFound"),
        (vec![(bead, rig_id), (bead, RigId::random())], "Invalid"),
        (vec![(bead, RigId::random())], "RigNotFound"),
    ];
    for (beads, expected) in cases {
        match town.convoy(&beads) {
            Err(Error::Refused(refusal)) => assert_eq!(name(&refusal), expected, "{beads:?}"),
            other => panic!("{beads:?}: {other:?}"),
        }
    }
    let twice = town.convoy(&[(bead, rig_id), (bead, rig_id)]);
    let Err(Error::Refused(Refusal::Invalid(issues))) = twice else {
        panic!("{twice:?}");
    };
    assert_eq!(issues[0].path, ["beads", "1", "bead_id"]);
    assert_eq!(town.bead(bead).convoy_id, None);
    assert_eq!(town.facts.len(), facts, "nothing is half written");
    let missing = NewBead {
        convoy_id: Some(BeadId::random()),
        ..NewBead::of(BeadType::Issue, "t".to_owned())
    };
    let refused = town.refused(|draft| beads::create(draft, Some(rig_id), missing));
    assert_eq!(refused, "ConvoyNotFound");
}

/// Something that is done to a bead.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, BeadStatus),
    Join,
    Delete(usize),
    Tell(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let bead = || 0_usize..6;
    let status = prop::sample::select(&[Open, InProgress, Closed, Closed, Closed, Failed][..]);
    prop_oneof![
        6 => (bead(), status).prop_map(|(bead, status)| Step::Set(bead, status)),
        1 => Just(Step::Join),
        1 => bead().prop_map(Step::Delete),
        1 => bead().prop_map(Step::Tell),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens: it lands exactly when the last of its beads is closed or gone, once, and
    /// its numbers are those of its beads.
    #[test]
    fn a_convoy_lands_exactly_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let mut ids: Vec<BeadId> = (0..4).map(|_| town.open_bead()).collect();
        let members: Vec<_> = ids.iter().map(|bead_id| (*bead_id, rig_id)).collect();
        let convoy_id = town.convoy(&members).unwrap().convoy.convoy_id;
        let mut has_landed = false;
        for step in steps {
            match step {
                Step::Set(at, status) if at < ids.len() => {
                    drop(town.set_status(ids[at], status, USER));
                }
                Step::Join => {
                    let new = NewBead {
                        convoy_id: Some(convoy_id),
                        ..NewBead::of(BeadType::Issue, "one more".to_owned())
                    };
                    let made = town.act(|draft| beads::create(draft, Some(rig_id), new));
                    prop_assert_eq!(made.is_ok(), !has_landed);
                    ids.extend(made.map(|bead| bead.bead_id));
                }
                Step::Delete(at) if at < ids.len() => {
                    let bead_id = ids.remove(at);
                    town.act(|draft| beads::delete(draft, rig_id, bead_id)).unwrap();
                }
                Step::Tell(at) if at < ids.len() => {
                    let bead_id = ids[at];
                    drop(town.act(|draft| convoys::bead_closed(draft, convoy_id, bead_id)));
                }
                _ => {}
            }
            let mut inside = Vec::new();
            for bead_id in &ids {
                let bead = town.bead(*bead_id);
                if bead.convoy_id.is_some() {
                    inside.push(bead.status);
                }
            }
            let count = |status| inside.iter().filter(|own| **own == status).count();
            has_landed |= inside.len() == count(Closed);
            let number = |count: usize| u32::try_from(count).unwrap();
            let expected =
                (number(inside.len()), number(count(Closed)), number(count(Failed)), has_landed);
            prop_assert_eq!(town.progress(convoy_id), expected);
            prop_assert_eq!(town.landings(), usize::from(has_landed));
        }
    }
}
