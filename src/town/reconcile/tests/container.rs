//! When the container wakes and when it sleeps.

use super::*;

pub(super) fn rests(action: &Action) -> bool {
    matches!(
        action,
        Action::KeepContainer | Action::NoteIdleContainer | Action::DrainContainer
    )
}

/// What is planned of the container that runs, and when the town is looked at next.
#[track_caller]
fn check(town: &View, now: Timestamp, expected: &[Action]) -> Timestamp {
    let Plan { actions, due_at } = reconcile(town, now);
    let planned = actions.into_iter().map(|planned| planned.action);
    let planned: Vec<Action> = planned.filter(rests).collect();
    assert_eq!(planned, expected);
    due_at
}

fn idle_since(since: Option<Timestamp>) -> View {
    let mut town = view(ContainerState::Ready);
    town.container.idle_since = since;
    town
}

fn mayor() -> AgentSeen {
    let mut mayor = agent(1, None);
    (mayor.role, mayor.rig_id) = (AgentRole::Mayor, None);
    mayor.requested_at = Some(NOW);
    mayor
}

#[test]
fn a_container_sleeps_when_nothing_has_needed_it_for_long() {
    check(&idle_since(None), NOW, &[Action::NoteIdleContainer]);
    let mut town = idle_since(Some(NOW));
    let end = NOW.after(SLEEP_AFTER);
    town.interval_idle = Duration::from_secs(3600);
    assert_eq!(check(&town, NOW, &[]), end, "it has a due time of its own");
    check(
        &town,
        end.after(Duration::from_secs(1)),
        &[Action::DrainContainer],
    );
    for state in [
        ContainerState::Asleep,
        ContainerState::Starting,
        ContainerState::Draining,
        ContainerState::Failed,
    ] {
        town.container.state = state;
        check(&town, end, &[]);
    }
}

#[test]
fn a_mayor_with_nobody_to_speak_to_needs_no_container() {
    let end = NOW.after(SLEEP_AFTER);
    let mut town = idle_since(Some(NOW));
    town.agents.push(mayor());
    check(&town, end, &[Action::DrainContainer]);
    // A turn that nobody announced: somebody spoke to its session directly.
    town.agents[0].last_activity_at = Some(NOW.after(Duration::from_secs(5)));
    check(&town, end, &[]);
    town.agents[0].last_activity_at = None;
    for change in [
        |mayor: &mut AgentSeen| mayor.status = AgentStatus::Working,
        |mayor: &mut AgentSeen| mayor.status = AgentStatus::Waiting,
        |mayor: &mut AgentSeen| mayor.has_mail = true,
        |mayor: &mut AgentSeen| mayor.hook = Some(BeadId::random()),
    ] {
        let mut town = town.clone();
        change(&mut town.agents[0]);
        check(&town, end, &[Action::KeepContainer]);
        town.container.idle_since = None;
        check(&town, end, &[]);
    }
}

#[test]
fn open_work_keeps_the_container_and_what_a_person_holds_back_does_not() {
    let end = NOW.after(SLEEP_AFTER);
    let mut hooked = agent(1, Some(BeadId::random()));
    hooked.due_at = end.after(Duration::from_secs(600));
    let mut town = idle_since(Some(NOW));
    town.agents.push(hooked);
    check(&town, end, &[Action::KeepContainer]);
    town.holds.town = true;
    check(&town, end, &[Action::DrainContainer]);
    // What runs goes on in a town that is held, whatever it waits for.
    town.agents[0].requested_at = Some(NOW);
    for status in [
        AgentStatus::Working,
        AgentStatus::Waiting,
        AgentStatus::Stalled,
    ] {
        town.agents[0].status = status;
        check(&town, end, &[Action::KeepContainer]);
    }
    for (status, approval, held, keeps) in [
        (ReviewStatus::Running, Approval::None, true, true),
        (ReviewStatus::Pending, Approval::None, false, true),
        (ReviewStatus::Pending, Approval::None, true, false),
        (ReviewStatus::Failed, Approval::None, false, false),
    ] {
        let mut town = idle_since(Some(NOW));
        town.holds.town = held;
        let mut merge = review(1, 1, status, Priority::Low);
        merge.approval = approval;
        merge.due_at = end.after(Duration::from_secs(60));
        merge.started_at = Some(end);
        town.reviews.push(merge);
        let expected = if keeps {
            Action::KeepContainer
        } else {
            Action::DrainContainer
        };
        check(&town, end, &[expected]);
    }
}

#[test]
fn one_that_failed_is_started_again_when_its_time_has_come_and_it_is_needed() {
    let mut town = view(ContainerState::Failed);
    town.agents.push(agent(1, Some(BeadId::random())));
    assert_eq!(actions(&town), [], "nobody has asked since it was given up");
    let later = NOW.after(Duration::from_secs(5));
    town.container.retry_at = Some(later);
    let plan = reconcile(&town, NOW);
    assert_eq!((acts(plan.clone()), plan.due_at), (vec![], later));
    assert_eq!(acts(reconcile(&town, later)), [Action::WakeContainer]);
    town.agents.clear();
    assert_eq!(acts(reconcile(&town, later)), []);
}

#[test]
fn a_towns_first_rig_brings_the_container_and_the_mayors_session() {
    let mut mayor = mayor();
    (mayor.requested_at, mayor.is_summoned) = (None, true);
    let agent_id = mayor.agent_id;
    let mut town = view(ContainerState::Asleep);
    town.agents.push(mayor);
    assert_eq!(actions(&town), [Action::WakeContainer]);
    town.container.state = ContainerState::Ready;
    assert_eq!(actions(&town), [Action::Dispatch { agent_id }]);
}
