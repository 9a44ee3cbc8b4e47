use super::attention::{AskSeen, UnattendedSeen};
use super::*;
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, Approval, AskId, BeadId, ContainerState, Dispatch,
    Priority, Review, ReviewStatus, RigId,
};

mod container;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const SLEEP_AFTER: Duration = Duration::from_secs(1800);

fn agent(seq: u64, hook: Option<BeadId>) -> AgentSeen {
    let agent = Agent {
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
    };
    AgentSeen::of(&agent, false)
}

fn review(seq: u64, rig: u8, status: ReviewStatus, priority: Priority) -> ReviewSeen {
    let review = Review {
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
        reworks: 0,
        approval: Approval::None,
        approval_note: None,
        refinery_failed: false,
        head_sha: None,
    };
    ReviewSeen::of(&review, priority)
}

fn view(state: ContainerState) -> View {
    let ready = state == ContainerState::Ready;
    View {
        container: ContainerSeen {
            state,
            retry_at: None,
            idle_since: None,
            sleep_after: SLEEP_AFTER,
            calls_mayor: false,
        },
        agents: Vec::new(),
        reviews: Vec::new(),
        refinery: RefinerySeen::default(),
        expiring: None,
        queues: Vec::new(),
        landings: Vec::new(),
        holds: Holds::default(),
        being_told: Vec::new(),
        attention: Attention::default(),
        interval_active: Duration::from_secs(15),
        interval_idle: Duration::from_secs(300),
        patrol_after: Duration::from_secs(1800),
        up_since: ready.then_some(Timestamp::from_millis(0)),
    }
}

fn actions(view: &View) -> Vec<Action> {
    acts(reconcile(view, NOW))
}

fn acts(plan: Plan) -> Vec<Action> {
    let planned = plan.actions.into_iter();
    let actions = planned.map(|planned| planned.action);
    actions.filter(|action| !container::rests(action)).collect()
}

#[test]
fn a_convoy_that_should_have_landed_is_landed() {
    let convoy_id = BeadId::random();
    let mut town = view(ContainerState::Asleep);
    town.landings.push(LandingDue { convoy_id });
    assert_eq!(actions(&town), [Action::LandConvoy { convoy_id }]);
}

#[test]
fn a_town_at_rest_sleeps_for_the_idle_interval() {
    for container in [
        ContainerState::Asleep,
        ContainerState::Starting,
        ContainerState::Ready,
    ] {
        let plan = reconcile(&view(container), NOW);
        assert_eq!(acts(plan.clone()), []);
        assert_eq!(plan.due_at, NOW.after(Duration::from_secs(300)));
    }
}

#[test]
fn work_wakes_the_container_once_and_is_dispatched_when_it_is_up() {
    let hooked = agent(1, Some(BeadId::random()));
    let mut town = view(ContainerState::Asleep);
    town.agents.push(hooked.clone());
    assert_eq!(actions(&town), [Action::WakeContainer]);
    town.container.state = ContainerState::Starting;
    assert_eq!(actions(&town), []);
    town.container.state = ContainerState::Ready;
    assert_eq!(
        actions(&town),
        [Action::Dispatch {
            agent_id: hooked.agent_id
        }]
    );
    town.agents[0].requested_at = Some(NOW);
    town.agents[0].runs_for = town.agents[0].hook;
    assert_eq!(actions(&town), []);
}

#[test]
fn what_runs_for_other_work_than_the_hook_holds_is_stopped() {
    let (bead_id, other) = (BeadId::random(), BeadId::random());
    for (hook, runs_for, stopped) in [
        (Some(bead_id), Some(bead_id), false),
        (Some(bead_id), Some(other), true),
        (Some(bead_id), None, true),
        (None, Some(bead_id), true),
    ] {
        let mut running = agent(1, hook);
        (running.requested_at, running.runs_for) = (Some(NOW), runs_for);
        let agent_id = running.agent_id;
        let mut town = view(ContainerState::Ready);
        town.agents.push(running);
        let expected = Action::StopLeftover { agent_id };
        assert_eq!(actions(&town).contains(&expected), stopped, "{hook:?}");
        town.agents[0].due_at = NOW.after(Duration::from_secs(1));
        assert_eq!(actions(&town), [], "it was asked a moment ago");
        town.agents[0].role = AgentRole::Mayor;
        town.agents[0].due_at = NOW;
        assert!(
            !actions(&town).contains(&expected),
            "a mayor is there for more than its hook"
        );
    }
}

#[test]
fn backoff_is_waited_for_and_never_longer_than_the_routine() {
    let mut waiting = agent(1, Some(BeadId::random()));
    waiting.due_at = NOW.after(Duration::from_secs(5));
    let mut later = agent(2, Some(BeadId::random()));
    later.due_at = NOW.after(Duration::from_secs(600));
    let mut town = view(ContainerState::Ready);
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
    let mut town = view(ContainerState::Ready);
    town.holds.rigs.push(RigId::from_bytes([1; 16]));
    town.agents.push(hooked);
    town.reviews
        .push(review(1, 1, ReviewStatus::Pending, Priority::High));
    assert_eq!(actions(&town), []);
}

#[test]
fn one_merge_per_rig_by_priority_then_age() {
    let old = review(1, 1, ReviewStatus::Pending, Priority::Medium);
    let urgent = review(2, 1, ReviewStatus::Pending, Priority::Critical);
    let other = review(3, 2, ReviewStatus::Pending, Priority::Low);
    let mut town = view(ContainerState::Ready);
    town.reviews = vec![old.clone(), urgent.clone(), other.clone()];
    assert_eq!(
        actions(&town),
        [
            Action::Merge {
                entry_id: urgent.entry_id
            },
            Action::Merge {
                entry_id: other.entry_id
            }
        ]
    );
    town.reviews[1].status = ReviewStatus::Running;
    town.reviews.pop();
    assert_eq!(actions(&town), []);
    town.reviews.remove(1);
    assert_eq!(
        actions(&town),
        [Action::Merge {
            entry_id: old.entry_id
        }]
    );
}

#[test]
fn a_merge_that_does_not_end_goes_back_to_the_queue() {
    let mut stuck = review(1, 1, ReviewStatus::Running, Priority::Low);
    stuck.started_at = Some(Timestamp::from_millis(0));
    let mut town = view(ContainerState::Ready);
    town.reviews.push(stuck.clone());
    let soon = Timestamp::from_millis(299_999);
    let plan = reconcile(&town, soon);
    assert_eq!(
        (plan.actions, plan.due_at),
        (vec![], Timestamp::from_millis(300_000))
    );
    let plan = reconcile(&town, Timestamp::from_millis(300_000));
    assert_eq!(
        acts(plan),
        [Action::RequeueStuck {
            entry_id: stuck.entry_id
        }]
    );
}

#[test]
fn the_mayor_is_started_and_then_told_once() {
    let mut mayor = agent(1, None);
    (mayor.role, mayor.rig_id) = (AgentRole::Mayor, None);
    let id = mayor.agent_id;
    let mut town = view(ContainerState::Ready);
    mayor.has_mail = true;
    town.agents.push(mayor);
    assert_eq!(actions(&town), [Action::Dispatch { agent_id: id }]);
    town.agents[0].requested_at = Some(NOW);
    town.agents[0].status = AgentStatus::Working;
    assert_eq!(actions(&town), []);
    town.agents[0].status = AgentStatus::Idle;
    assert_eq!(actions(&town), [Action::TellMayor { agent_id: id }]);
    town.being_told.push(Told { agent_id: id });
    assert_eq!(actions(&town), []);
}

#[test]
fn people_hear_of_what_waits_for_them_when_its_time_has_come() {
    let later = NOW.after(Duration::from_secs(60));
    let ask = |escalates_at| AskSeen {
        ask_id: AskId::random(),
        escalates_at,
    };
    let unattended = |again_at, to_notify| UnattendedSeen {
        bead_id: BeadId::random(),
        again_at,
        to_notify,
    };
    let mut town = view(ContainerState::Asleep);
    town.attention.asks = vec![ask(NOW), ask(later)];
    town.attention.unattended = vec![
        unattended(Some(NOW), false),
        unattended(None, true),
        unattended(None, false),
    ];
    let plan = reconcile(&town, NOW);
    assert_eq!(plan.due_at, later);
    let Attention { asks, unattended } = &town.attention;
    assert_eq!(
        acts(plan),
        [
            Action::EscalateAsk {
                ask_id: asks[0].ask_id
            },
            Action::RaiseAgain {
                bead_id: unattended[0].bead_id
            },
            Action::Notify {
                bead_id: unattended[1].bead_id
            },
        ],
        "and none of it needs the container"
    );
}
