//! What lies on the disk: measured, let go of, and held against the quota.

use std::time::Duration;

use serde_json::json;

use super::bench::{BACKOFF_MAX, Bench};
use crate::container::protocol::{ContainerDisk, RigDisk, Tidied, WorktreeDisk};
use crate::container::worktree_folder_name;
use crate::model::{AgentId, AgentRole, BeadStatus, Epoch};
use crate::storage::{DiskKey, RemovalKey};
use crate::town::disk::{self, TIDY_ATTEMPTS_MAX};
use crate::town::effects::Effect;
use crate::town::reconcile::Action;
use crate::town::removals::REMOVAL_ATTEMPTS_MAX;
use crate::town::{agents, container, dispatch, link, queries, removals};

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FULL: &str = "the town's disk quota is used up";

impl Bench {
    /// The container tells of so much, besides a worktree of one MiB.
    fn measured(&mut self, agent_id: AgentId, other: u64, tidied: Option<Tidied>) {
        let folder = worktree_folder_name(&self.agent(agent_id).name, agent_id);
        let rig_id = self.rig_id;
        let told = ContainerDisk {
            rigs: vec![RigDisk {
                rig_id,
                repository_bytes: 0,
                worktrees: vec![WorktreeDisk {
                    folder,
                    bytes: MIB,
                    build_bytes: 0,
                }],
            }],
            other_bytes: other,
            tidied,
        };
        self.act(|draft| disk::measured(draft, told)).unwrap();
    }

    fn tidies(&self) -> bool {
        self.all_planned().contains(&Action::TidyDisk)
    }

    fn held(&self) -> Option<String> {
        queries::disk(self.tree()).unwrap().held
    }

    fn open_escalations(&self) -> Vec<String> {
        let open = self.escalations().into_iter();
        open.filter(|bead| bead.status != BeadStatus::Closed)
            .map(|bead| bead.title)
            .collect()
    }
}

fn freed(bytes: u64) -> Option<Tidied> {
    Some(Tidied {
        freed_bytes: bytes,
        builds: 1,
        ..Tidied::default()
    })
}

#[test]
fn a_quota_holds_work_only_after_everything_that_can_go_is_gone() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    let dispatch = Action::Dispatch { agent_id };
    town.measured(agent_id, 50 * MIB, None);
    assert!(!town.tidies(), "there is no quota");
    town.configure(&json!({"container": {"disk_bytes_max": 40 * MIB}}));
    assert!(town.tidies() && town.all_planned().contains(&dispatch));
    town.act(disk::tidy).unwrap();
    assert_eq!(town.effects.last(), Some(&Effect::TidyDisk));
    assert!(!town.tidies(), "it was asked");
    town.measured(agent_id, 10 * MIB, freed(40 * MIB));
    assert!(town.facts.contains(&"disk.tidied".to_owned()));
    assert_eq!(town.held(), None);
    assert!(!town.tidies());

    town.measured(agent_id, 60 * MIB, None);
    town.later(BACKOFF_MAX);
    assert!(town.tidies() && town.held().is_none());
    town.act(disk::tidy).unwrap();
    town.measured(agent_id, 50 * MIB, freed(10 * MIB));
    let why = town.held().unwrap();
    assert_eq!(
        why,
        "51.0 MiB of the 40.0 MiB of disk that the town may take are used"
    );
    assert_eq!(town.open_escalations(), [FULL]);
    assert_eq!(
        town.planned(),
        [],
        "nothing is started, and not at once tried again"
    );
    town.later(BACKOFF_MAX);
    assert!(town.tidies(), "work waits");
    town.act(disk::tidy).unwrap();
    town.measured(agent_id, 50 * MIB, freed(0));
    assert_eq!(town.open_escalations(), [FULL], "it is told once");

    town.configure(&json!({"container": {"disk_bytes_max": 90 * MIB}}));
    assert_eq!(town.held(), None);
    let actions = town.all_planned();
    assert!(actions.contains(&Action::FreeDisk), "{actions:?}");
    town.act(disk::free).unwrap();
    assert_eq!(town.open_escalations(), [""; 0]);
    assert!(town.all_planned().contains(&dispatch));
    let told = |what: &str| town.facts.iter().filter(|fact| *fact == what).count();
    assert_eq!((told("disk.full"), told("disk.freed")), (1, 1));
}

#[test]
fn tidying_that_fails_is_tried_a_few_times_and_then_work_is_held() {
    type Loss = fn(&mut Bench);
    let losses: [(&str, Loss); 4] = [
        ("refused", |town| {
            town.act(|draft| disk::tidy_failed(draft, "refused"))
                .unwrap();
        }),
        ("killed", |town| {
            town.act(|draft| link::down(draft, "killed")).unwrap();
        }),
        ("another came", |town| {
            town.act(|draft| link::up(draft, Epoch::random())).unwrap();
        }),
        ("no remote", |town| {
            let agents = town.act(|draft| draft.agents_of(draft_rig(draft))).unwrap();
            let tidied = Tidied {
                error: Some("no remote".to_owned()),
                ..Tidied::default()
            };
            town.measured(agents[0].agent_id, 50 * MIB, Some(tidied));
        }),
    ];
    for (what, lose) in losses {
        let mut town = Bench::new();
        let agent_id = town.polecat();
        town.configure(&json!({"container": {"disk_bytes_max": 40 * MIB}}));
        town.measured(agent_id, 50 * MIB, None);
        let mut tries = 0;
        while town.held().is_none() {
            assert!(town.tidies(), "{what}");
            town.act(disk::tidy).unwrap();
            lose(&mut town);
            assert!(!town.tidies(), "{what}: not at once again");
            town.later(BACKOFF_MAX);
            tries += 1;
        }
        assert_eq!(tries, TIDY_ATTEMPTS_MAX, "{what}");
        assert_eq!(town.open_escalations(), [FULL], "{what}");
    }
}

/// The rig that the bench's agents are made in.
fn draft_rig(draft: &crate::town::draft::Draft<'_>) -> crate::model::RigId {
    let rigs = queries::rigs(draft.tree).unwrap();
    let first = rigs.into_iter().find(|rig| rig.name == "one");
    first.unwrap().rig_id
}

#[test]
fn a_container_that_can_not_be_started_is_no_failed_try_of_what_waits_for_it() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, _) = town.hooked();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    town.configure(&json!({"container": {"disk_bytes_max": 40 * MIB}}));
    let other = town.polecat();
    town.measured(other, 50 * MIB, None);
    for _ in 0..TIDY_ATTEMPTS_MAX.max(REMOVAL_ATTEMPTS_MAX) {
        town.act(|draft| container::start_failed(draft, "no such program"))
            .unwrap();
        town.later(BACKOFF_MAX);
    }
    assert_eq!(town.held(), None);
    let disk = town.tree().get(&DiskKey {}).unwrap().unwrap();
    let removal = town.tree().get(&RemovalKey { agent_id }).unwrap().unwrap();
    assert_eq!((disk.attempts, removal.attempts), (0, 0));
    assert_eq!(
        town.open_escalations(),
        ["the town's container can't be started"],
        "one cause, told once"
    );
}

#[test]
fn a_worktree_that_lies_unused_is_looked_at_after_its_days_and_then_once_a_day() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    town.measured(agent_id, 0, None);
    town.later(30 * DAY);
    assert!(!town.tidies(), "its agent has work");
    let rig_id = town.rig_id;
    town.act(|draft| agents::unhook(draft, rig_id, agent_id))
        .unwrap();
    town.act(|draft| agents::heartbeat(draft, rig_id, agent_id))
        .unwrap();
    town.later(7 * DAY - Duration::from_millis(1));
    assert!(!town.tidies());
    town.later(Duration::from_millis(1));
    assert!(town.tidies());
    town.act(disk::tidy).unwrap();
    town.measured(agent_id, 0, freed(0));
    town.later(DAY - Duration::from_millis(1));
    assert!(!town.tidies(), "it had to stay");
    town.later(Duration::from_millis(1));
    assert!(town.tidies());
    town.configure(&json!({"retention": {"worktree_days": 365}}));
    assert!(!town.tidies());
    assert_eq!(town.open_escalations(), [""; 0]);
}

#[test]
fn what_a_deleted_agent_left_goes_or_people_hear_of_it() {
    let rows = |town: &Bench| town.tree().scan(&RemovalKey::all()).count();
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let idle = town.polecat();
    town.act(|draft| agents::delete(draft, rig_id, idle))
        .unwrap();
    assert_eq!(rows(&town), 0, "it never ran");
    assert!(town.effects.contains(&Effect::DeleteLog(idle)));

    for fails in [false, true] {
        let (agent_id, _) = town.hooked();
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        town.act(|draft| agents::delete(draft, rig_id, agent_id))
            .unwrap();
        assert_eq!(rows(&town), 1);
        let action = Action::RemoveAgent { agent_id };
        let mut tries = 0;
        while rows(&town) > 0 {
            assert!(town.all_planned().contains(&action), "{tries}");
            town.act(|draft| removals::remove(draft, agent_id)).unwrap();
            assert!(!town.all_planned().contains(&action), "it was asked");
            let outcome = if fails {
                Err("busy".to_owned())
            } else {
                Ok(())
            };
            town.act(|draft| removals::removed(draft, agent_id, outcome))
                .unwrap();
            assert!(!town.all_planned().contains(&action), "not at once again");
            town.later(BACKOFF_MAX);
            tries += 1;
        }
        let expected = if fails { REMOVAL_ATTEMPTS_MAX } else { 1 };
        assert_eq!(tries, expected);
        assert_eq!(town.open_escalations().len(), usize::from(fails));
    }
}

#[test]
fn a_name_is_not_given_again_while_its_worktree_is_there() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let polecat = |town: &mut Bench| {
        town.act(|draft| agents::get_or_create(draft, rig_id, AgentRole::Polecat))
            .unwrap()
    };
    let first = polecat(&mut town);
    let agent_id = first.agent_id;
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    let second = polecat(&mut town);
    assert_ne!(first.name, second.name);
    town.act(|draft| removals::removed(draft, agent_id, Ok(())))
        .unwrap();
    town.act(|draft| agents::delete(draft, rig_id, second.agent_id))
        .unwrap();
    assert_eq!(first.name, polecat(&mut town).name);
}

#[test]
fn a_worktree_that_a_new_agent_took_over_is_not_removed() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, _) = town.hooked();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    let name = town.agent(agent_id).name;
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    let new = crate::town::command::NewAgent {
        role: AgentRole::Polecat,
        identity: "another@here".to_owned(),
        name,
    };
    town.act(|draft| agents::create(draft, rig_id, new))
        .unwrap();
    town.act(|draft| removals::remove(draft, agent_id)).unwrap();
    assert_eq!(town.tree().scan(&RemovalKey::all()).count(), 0);
    let removes = |effect: &&Effect| matches!(effect, Effect::RemoveAgent { .. });
    assert_eq!(town.effects.iter().find(removes), None);
    assert!(town.effects.contains(&Effect::HaltAgent(agent_id)));
}

#[test]
fn a_measurement_knows_whose_worktrees_are_whose() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    town.measured(agent_id, 5, None);
    let disk = town.tree().get(&DiskKey {}).unwrap().unwrap();
    assert_eq!(disk.bytes(), MIB + 5);
    assert_eq!(disk.rigs[0].worktrees[0].agent_id, Some(agent_id));
    let rig_id = town.rig_id;
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    assert!(
        town.act(|draft| disk::measured(draft, ContainerDisk::default()))
            .is_ok()
    );
    let disk = town.tree().get(&DiskKey {}).unwrap().unwrap();
    assert_eq!((disk.bytes(), disk.rigs.len()), (0, 0));
}
