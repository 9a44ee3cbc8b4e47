use super::bench::{ATTEMPTS_MAX, Bench};
use crate::container::ExitKind;
use crate::model::{AgentId, AgentStatus, BeadStatus, Epoch};
use crate::town::draft::Draft;
use crate::town::effects::Effect;
use crate::town::refusal::Error;
use crate::town::{agents, asks, dispatch, link};

#[test]
fn tries_wait_longer_and_longer_and_then_the_bead_fails() {
    let mut town = Bench::new();
    let (agent_id, bead_id) = town.hooked();
    let mut waits = Vec::new();
    for attempt in 1..=ATTEMPTS_MAX {
        assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        let agent = town.agent(agent_id);
        assert_eq!(agent.dispatch.attempts, attempt);
        assert_eq!(agent.status, AgentStatus::Working);
        town.act(|draft| dispatch::failed(draft, agent_id, ExitKind::AgentServer, "crashed"))
            .unwrap();
        let agent = town.agent(agent_id);
        assert_eq!(agent.dispatch.requested_at, None);
        assert_eq!(agent.dispatch.last_error.as_deref(), Some("crashed"));
        let wait = agent.dispatch.due_at.since(town.now);
        waits.push(wait.as_secs());
        town.later(wait);
    }
    assert_eq!(waits, [30, 60, 120, 240, 480]);
    let bead = town.bead(bead_id);
    assert_eq!(bead.status, BeadStatus::Failed);
    assert!(bead.failure.unwrap().contains("crashed"));
    assert_eq!(town.agent(agent_id).hook, None);
    let escalations = town.escalations();
    assert_eq!(escalations.len(), 1);
    assert!(escalations[0].title.starts_with("gave up on"));
}

#[test]
fn a_person_is_called_at_the_first_failure_that_only_they_can_mend() {
    let calls = [
        (ExitKind::ProgramMissing, true),
        (ExitKind::Repository, true),
        (ExitKind::Config, true),
        (ExitKind::Model, true),
        (ExitKind::NotReady, false),
        (ExitKind::Worktree, false),
        (ExitKind::Session, false),
        (ExitKind::AgentServer, false),
    ];
    for (kind, called) in calls {
        let mut town = Bench::new();
        let (agent_id, _) = town.hooked();
        for _ in 0..3 {
            town.act(|draft| dispatch::request(draft, agent_id))
                .unwrap();
            town.act(|draft| dispatch::failed(draft, agent_id, kind, "no"))
                .unwrap();
        }
        assert_eq!(town.escalations().len(), usize::from(called), "{kind:?}");
    }
}

#[test]
fn an_agent_that_stops_early_is_told_to_go_on_and_then_its_run_has_failed() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::started(draft, agent_id, "s".to_owned(), false))
        .unwrap();
    for _ in 0..3 {
        town.act(|draft| dispatch::idle(draft, agent_id)).unwrap();
    }
    let reminders = |town: &Bench| {
        let reminders = town.effects.iter();
        reminders
            .filter(|effect| **effect == Effect::Remind(agent_id))
            .count()
    };
    assert_eq!(reminders(&town), 3);
    town.act(|draft| dispatch::idle(draft, agent_id)).unwrap();
    assert_eq!(reminders(&town), 3);
    assert!(town.effects.contains(&Effect::StopAgent(agent_id)));
    town.act(|draft| dispatch::stopped(draft, agent_id, "asked to"))
        .unwrap();
    let agent = town.agent(agent_id);
    assert_eq!(agent.dispatch.attempts, 1, "it counts as a try");
    assert!(agent.dispatch.due_at > town.now);
    assert!(agent.dispatch.last_error.unwrap().contains("gt_done"));
}

#[test]
fn a_run_that_was_stopped_is_no_failed_try() {
    let mut town = Bench::new();
    let (agent_id, bead_id) = town.hooked();
    for _ in 0..2 * ATTEMPTS_MAX {
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        town.act(|draft| dispatch::stopped(draft, agent_id, "drained"))
            .unwrap();
    }
    assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
    assert_eq!(town.agent(agent_id).dispatch.due_at, town.now);
    assert_eq!(town.escalations().len(), 0);
}

#[test]
fn an_end_that_is_heard_of_twice_gives_back_one_try() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    let mut again = |fails: bool| {
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        if fails {
            town.act(|draft| dispatch::failed(draft, agent_id, ExitKind::Session, "it broke"))
                .unwrap();
        }
        let failed = town.agent(agent_id).dispatch;
        for _ in 0..2 {
            town.act(|draft| dispatch::stopped(draft, agent_id, "it was asked to"))
                .unwrap();
        }
        (failed, town.agent(agent_id).dispatch)
    };
    let (failed, after) = again(true);
    assert_eq!((after.attempts, after.due_at), (1, failed.due_at));
    let (_, after) = again(false);
    assert_eq!(after.attempts, 1, "one try was given back");
}

#[test]
fn a_container_of_another_life_knows_nothing_of_what_ran() {
    let mut town = Bench::new();
    let (agent_id, bead_id) = town.hooked();
    let epoch = Epoch::random();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    assert!(town.effects.contains(&Effect::Verify(agent_id)));
    assert!(town.agent(agent_id).dispatch.requested_at.is_some());
    town.act(|draft| link::up(draft, Epoch::random())).unwrap();
    let agent = town.agent(agent_id);
    assert_eq!(agent.dispatch.requested_at, None);
    assert_eq!(agent.hook, Some(bead_id), "its work is still its own");
    assert_eq!(agent.dispatch.attempts, 0, "and the try does not count");
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| link::down(draft, "killed")).unwrap();
    let agent = town.agent(agent_id);
    assert_eq!(agent.dispatch.attempts, 1, "a lost process is a failed try");
    assert!(agent.dispatch.due_at > town.now);
}

/// Something that a run shows of itself.
type Shown = fn(&mut Draft<'_>, AgentId) -> Result<(), Error>;

#[test]
fn what_runs_for_no_hook_any_more_is_stopped_when_it_shows_itself() {
    let shown: [(&str, Shown); 4] = [
        ("started", |draft, agent_id| {
            dispatch::started(draft, agent_id, "s".to_owned(), false)
        }),
        ("idle", dispatch::idle),
        ("asks", |draft, agent_id| {
            let asked = crate::container::Asked {
                ask_id: "ask".to_owned(),
                kind: crate::model::AskKind::Question,
                title: "which colour?".to_owned(),
                detail: crate::model::Json::empty_object(),
            };
            asks::opened(draft, agent_id, asked)
        }),
        ("asked again", dispatch::stop_leftover),
    ];
    for (what, show) in shown {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let (agent_id, _) = town.hooked();
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        town.act(|draft| agents::unhook(draft, rig_id, agent_id))
            .unwrap();
        town.effects.clear();
        town.act(|draft| show(draft, agent_id)).unwrap();
        assert_eq!(town.effects, [Effect::StopAgent(agent_id)], "{what}");
        assert_eq!(town.agent(agent_id).status, AgentStatus::Idle, "{what}");
        assert_eq!(town.escalations().len(), 0, "{what}");
        // The same where another bead is on the hook by now.
        let bead_id = town.open_bead();
        town.hook(agent_id, bead_id).unwrap();
        town.effects.clear();
        town.act(|draft| show(draft, agent_id)).unwrap();
        assert_eq!(town.effects, [Effect::StopAgent(agent_id)], "{what}");
    }
}

#[test]
fn a_link_that_comes_back_stops_what_nobody_needs_and_asks_for_the_rest() {
    let mut town = Bench::new();
    let (rig_id, epoch) = (town.rig_id, Epoch::random());
    let ((kept, _), (freed, _)) = (town.hooked(), town.hooked());
    town.act(|draft| link::up(draft, epoch)).unwrap();
    for agent_id in [kept, freed] {
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
    }
    town.act(|draft| agents::unhook(draft, rig_id, freed))
        .unwrap();
    town.effects.clear();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    assert_eq!(town.effects.len(), 2);
    assert!(town.effects.contains(&Effect::Verify(kept)));
    assert!(town.effects.contains(&Effect::StopAgent(freed)));
}

#[test]
fn a_run_of_a_deleted_agent_is_stopped() {
    let mut town = Bench::new();
    let stranger = AgentId::random();
    let idle = || crate::container::AgentReport::Idle { ends: false };
    town.act(|draft| link::report(draft, stranger, idle()))
        .unwrap();
    assert_eq!(town.effects, [Effect::StopAgent(stranger)]);
}

#[test]
fn a_mayor_whose_message_was_lost_is_found_idle_and_told_again() {
    let mut town = Bench::new();
    let mayor = town.act(agents::mayor).unwrap().agent_id;
    town.act(|draft| dispatch::request(draft, mayor)).unwrap();
    town.act(|draft| dispatch::started(draft, mayor, "s".to_owned(), false))
        .unwrap();
    town.act(|draft| {
        let agent = draft.agent(mayor)?;
        agents::set_status(draft, agent, AgentStatus::Working, None)
    })
    .unwrap();
    town.act(|draft| dispatch::found_idle(draft, mayor))
        .unwrap();
    assert_eq!(town.agent(mayor).status, AgentStatus::Idle);
}
