use super::*;
use crate::model::{AgentStatus, Dispatch};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn agent(seq: u64, hook: Option<BeadId>) -> Agent {
    Agent {
        agent_id: AgentId::random(),
        seq,
        rig_id: Some(RigId::from_bytes([1; 16])),
        role: AgentRole::Polecat,
        name: format!("a{seq}"),
        identity: format!("a{seq}"),
        status: AgentStatus::Idle,
        hook,
        dispatch: Dispatch::default(),
        last_activity_at: None,
        checkpoint: None,
        created_at: NOW,
    }
}

fn review(seq: u64, rig: u8, status: ReviewStatus) -> Review {
    Review {
        entry_id: BeadId::random(),
        seq,
        rig_id: RigId::from_bytes([rig; 16]),
        source_bead_id: BeadId::random(),
        agent_id: AgentId::random(),
        branch: "b".to_owned(),
        pr_url: None,
        summary: None,
        status,
        attempts: 0,
        due_at: NOW,
        started_at: Some(NOW),
        message: None,
        commit_sha: None,
    }
}

fn view(container: Container) -> View {
    View {
        container,
        agents: Vec::new(),
        reviews: Vec::new(),
        paused: Vec::new(),
        mayor_mail: None,
        being_told: Vec::new(),
        attention: Attention::default(),
        interval_active: Duration::from_secs(15),
        interval_idle: Duration::from_secs(300),
    }
}

fn actions(view: &View) -> Vec<Action> {
    reconcile(view, NOW).actions
}

#[test]
fn a_town_at_rest_sleeps_for_the_idle_interval() {
    for container in [Container::Asleep, Container::Waking, Container::Up] {
        let plan = reconcile(&view(container), NOW);
        assert_eq!(plan.actions, []);
        assert_eq!(plan.due_at, NOW.after(Duration::from_secs(300)));
    }
}

#[test]
fn work_wakes_the_container_once_and_is_dispatched_when_it_is_up() {
    let hooked = agent(1, Some(BeadId::random()));
    let mut town = view(Container::Asleep);
    town.agents.push(hooked.clone());
    assert_eq!(actions(&town), [Action::WakeContainer]);
    town.container = Container::Waking;
    assert_eq!(actions(&town), []);
    town.container = Container::Up;
    assert_eq!(actions(&town), [Action::Dispatch(hooked.agent_id)]);
    town.agents[0].dispatch.requested_at = Some(NOW);
    assert_eq!(actions(&town), []);
}

#[test]
fn backoff_is_waited_for_and_never_longer_than_the_routine() {
    let mut waiting = agent(1, Some(BeadId::random()));
    waiting.dispatch.due_at = NOW.after(Duration::from_secs(5));
    let mut later = agent(2, Some(BeadId::random()));
    later.dispatch.due_at = NOW.after(Duration::from_secs(600));
    let mut town = view(Container::Up);
    town.agents = vec![later, waiting];
    let plan = reconcile(&town, NOW);
    assert_eq!(
        (plan.actions, plan.due_at),
        (vec![], NOW.after(Duration::from_secs(5)))
    );
    town.agents.pop();
    assert_eq!(
        reconcile(&town, NOW).due_at,
        NOW.after(Duration::from_secs(15))
    );
}

#[test]
fn a_held_rig_starts_nothing() {
    let hooked = agent(1, Some(BeadId::random()));
    let mut town = view(Container::Up);
    town.paused.push(RigId::from_bytes([1; 16]));
    town.agents.push(hooked);
    town.reviews
        .push((review(1, 1, ReviewStatus::Pending), Priority::High));
    assert_eq!(actions(&town), []);
}

#[test]
fn one_merge_per_rig_by_priority_then_age() {
    let old = review(1, 1, ReviewStatus::Pending);
    let urgent = review(2, 1, ReviewStatus::Pending);
    let other = review(3, 2, ReviewStatus::Pending);
    let mut town = view(Container::Up);
    town.reviews = vec![
        (old.clone(), Priority::Medium),
        (urgent.clone(), Priority::Critical),
        (other.clone(), Priority::Low),
    ];
    assert_eq!(
        actions(&town),
        [
            Action::Merge(urgent.entry_id),
            Action::Merge(other.entry_id)
        ]
    );
    town.reviews[1].0.status = ReviewStatus::Running;
    town.reviews.pop();
    assert_eq!(actions(&town), []);
    town.reviews.remove(1);
    assert_eq!(actions(&town), [Action::Merge(old.entry_id)]);
}

#[test]
fn a_merge_that_does_not_end_goes_back_to_the_queue() {
    let mut stuck = review(1, 1, ReviewStatus::Running);
    stuck.started_at = Some(Timestamp::from_millis(0));
    let mut town = view(Container::Up);
    town.reviews.push((stuck.clone(), Priority::Low));
    let soon = Timestamp::from_millis(299_999);
    let plan = reconcile(&town, soon);
    assert_eq!(
        (plan.actions, plan.due_at),
        (vec![], Timestamp::from_millis(300_000))
    );
    let plan = reconcile(&town, Timestamp::from_millis(300_000));
    assert_eq!(plan.actions, [Action::RequeueStuck(stuck.entry_id)]);
}

#[test]
fn the_mayor_is_started_and_then_told_once() {
    let mut mayor = agent(1, None);
    (mayor.role, mayor.rig_id) = (AgentRole::Mayor, None);
    let id = mayor.agent_id;
    let mut town = view(Container::Up);
    town.mayor_mail = Some(id);
    town.agents.push(mayor);
    assert_eq!(actions(&town), [Action::Dispatch(id)]);
    town.agents[0].dispatch.requested_at = Some(NOW);
    town.agents[0].status = AgentStatus::Working;
    // A session of an earlier run is no session yet.
    town.agents[0].dispatch.session_id = Some("s".to_owned());
    assert_eq!(actions(&town), []);
    town.agents[0].status = AgentStatus::Idle;
    assert_eq!(actions(&town), [Action::TellMayor(id)]);
    town.being_told.push(id);
    assert_eq!(actions(&town), []);
}
