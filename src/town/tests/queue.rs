use super::bench::Bench;
use crate::model::{
    AgentId, Bead, BeadId, BeadStatus, ContainerState, Dependency, DependencyKind, Json, Priority,
};
use crate::town::agents;
use crate::town::command::{BeadActor, SlingOrder, Slung};
use crate::town::reconcile::{self, Action, Live, View};
use crate::town::{dependencies, pause, queue, settings};

fn order(priority: Priority) -> SlingOrder {
    SlingOrder {
        title: "t".to_owned(),
        body: None,
        priority,
        metadata: Json::empty_object(),
        created_by: None,
    }
}

impl Bench {
    fn sling(&mut self, priority: Priority) -> Slung {
        let rig_id = self.rig_id;
        self.act(|draft| queue::sling(draft, rig_id, order(priority)))
            .unwrap()
    }

    fn limit(&mut self, max_polecats_per_rig: u32) {
        let patch = serde_json::json!({"max_polecats_per_rig": max_polecats_per_rig});
        self.act(|draft| settings::patch_config(draft, &patch))
            .unwrap();
    }

    /// Beads that the reconciler would give out now.
    pub(super) fn to_assign(&self) -> Vec<BeadId> {
        let actions = self.planned().into_iter();
        actions
            .filter_map(|action| match action {
                Action::Assign { bead_id } => Some(bead_id),
                _ => None,
            })
            .collect()
    }

    /// What the reconciler would do with a container that is up.
    pub(super) fn planned(&self) -> Vec<Action> {
        // What people and the mayor are to hear of is another duty's.
        let mayor = crate::town::queries::mayor(self.tree()).unwrap();
        let for_people = |action: &Action| match action {
            Action::NoteIdleContainer => true,
            Action::EscalateAsk { .. } | Action::RaiseAgain { .. } | Action::Notify { .. } => true,
            Action::Dispatch { agent_id } => mayor
                .as_ref()
                .is_some_and(|mayor| mayor.agent_id == *agent_id),
            _ => false,
        };
        let mut actions = self.all_planned();
        actions.retain(|action| !for_people(action));
        actions
    }

    /// Everything that the alarm would do now.
    pub(super) fn all_planned(&self) -> Vec<Action> {
        let mut view = self.view();
        view.container.state = ContainerState::Ready;
        self.plan_of(&view)
    }

    /// What it would do with the container as it is.
    pub(super) fn planned_as_it_is(&self) -> Vec<Action> {
        self.plan_of(&self.view())
    }

    fn view(&self) -> View {
        let live = Live {
            heard: true,
            being_told: Vec::new(),
            being_notified: Vec::new(),
            ask_patience: super::bench::ASK_PATIENCE,
            up_since: Some(crate::model::Timestamp::from_millis(0)),
        };
        View::observe(self.tree(), &live, self.settings()).unwrap()
    }

    fn plan_of(&self, view: &View) -> Vec<Action> {
        let plan = reconcile::reconcile(view, self.now);
        plan.actions
            .into_iter()
            .map(|planned| planned.action)
            .collect()
    }

    fn assign(&mut self, bead_id: BeadId) -> Option<AgentId> {
        let agent = self.act(|draft| queue::assign(draft, bead_id)).unwrap();
        agent.map(|agent| agent.agent_id)
    }

    fn finish(&mut self, bead: &Bead) {
        self.set_status(bead.bead_id, BeadStatus::Closed, BeadActor::User(None))
            .unwrap();
    }
}

#[test]
fn slings_beyond_the_limit_wait_for_a_free_polecat() {
    let mut town = Bench::new();
    town.limit(2);
    let first = town.sling(Priority::Low);
    let polecat = first.agent.unwrap();
    assert_eq!(polecat.hook, Some(first.bead.bead_id));
    assert_eq!(first.bead.status, BeadStatus::InProgress);
    town.sling(Priority::Low).agent.unwrap();
    let waits = town.sling(Priority::Medium);
    assert!(waits.agent.is_none());
    assert_eq!(waits.bead.status, BeadStatus::Open);
    let urgent = town.sling(Priority::Critical).bead;
    let later = town.sling(Priority::Medium).bead;
    assert_eq!(town.to_assign(), [], "nobody is free");
    assert_eq!(town.assign(urgent.bead_id), None);
    town.finish(&first.bead);
    assert_eq!(town.to_assign(), [urgent.bead_id]);
    assert_eq!(town.assign(urgent.bead_id), Some(polecat.agent_id));
    assert_eq!(town.assign(urgent.bead_id), None, "it has one");
    assert_eq!(town.to_assign(), []);
    town.limit(4);
    assert_eq!(town.to_assign(), [waits.bead.bead_id, later.bead_id]);
}

#[test]
fn whoever_waits_comes_before_who_slings_now() {
    let mut town = Bench::new();
    town.limit(1);
    let first = town.sling(Priority::Low).bead;
    let waits = town.sling(Priority::Low).bead;
    town.finish(&first);
    let now = town.sling(Priority::Low);
    assert!(now.agent.is_none());
    assert_eq!(town.to_assign(), [waits.bead_id]);
}

#[test]
fn held_work_is_not_given_out() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    town.act(|draft| pause::set_town(draft, true)).unwrap();
    let slung = town.sling(Priority::Low);
    assert!(slung.agent.is_none());
    assert_eq!(town.to_assign(), []);
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert_eq!(town.to_assign(), [slung.bead.bead_id]);
    town.act(|draft| pause::set_rig(draft, rig_id, true))
        .unwrap();
    assert_eq!(town.to_assign(), []);
    town.act(|draft| pause::set_rig(draft, rig_id, false))
        .unwrap();
    let patch = serde_json::json!({"budget": {"tokens_per_day": 0}});
    town.act(|draft| settings::patch_config(draft, &patch))
        .unwrap();
    assert_eq!(town.to_assign(), []);
    assert!(town.sling(Priority::Low).agent.is_none());
}

#[test]
fn what_a_person_takes_back_is_not_given_out_again() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let slung = town.sling(Priority::Low);
    let polecat = slung.agent.unwrap().agent_id;
    town.act(|draft| agents::unhook(draft, rig_id, polecat))
        .unwrap();
    assert_eq!(town.bead(slung.bead.bead_id).status, BeadStatus::Open);
    assert_eq!(town.to_assign(), []);
}

#[test]
fn the_slung_bead_of_a_deleted_polecat_goes_to_another() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let slung = town.sling(Priority::Low);
    let polecat = slung.agent.unwrap().agent_id;
    town.act(|draft| agents::delete(draft, rig_id, polecat))
        .unwrap();
    assert_eq!(town.to_assign(), [slung.bead.bead_id]);
}

#[test]
fn a_failed_bead_is_tried_again_and_a_slung_one_gets_a_polecat() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let slung = town.sling(Priority::Low).bead.bead_id;
    let (_, hooked) = town.hooked();
    for bead_id in [slung, hooked] {
        let refused = town.refused(|draft| queue::retry(draft, rig_id, bead_id, None));
        assert_eq!(refused, "BeadNotFailed");
        town.set_status(bead_id, BeadStatus::Failed, BeadActor::User(None))
            .unwrap();
        let bead = town
            .act(|draft| queue::retry(draft, rig_id, bead_id, None))
            .unwrap();
        assert_eq!((bead.status, bead.failure), (BeadStatus::Open, None));
    }
    assert_eq!(town.to_assign(), [slung], "the other waits for a hook");
}

#[test]
fn a_blocked_bead_waits_until_its_blocker_is_closed() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let blocker = town.open_bead();
    town.act(|draft| pause::set_town(draft, true)).unwrap();
    let slung = town.sling(Priority::High).bead.bead_id;
    let on = Dependency {
        on_bead_id: blocker,
        kind: DependencyKind::Blocks,
    };
    town.act(|draft| dependencies::add(draft, rig_id, slung, on, None))
        .unwrap();
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert_eq!(town.to_assign(), []);
    assert_eq!(town.assign(slung), None);
    town.set_status(blocker, BeadStatus::Closed, BeadActor::User(None))
        .unwrap();
    assert_eq!(town.to_assign(), [slung]);
}
