use super::bench::Bench;
use crate::model::{AgentStatus, BeadStatus};
use crate::town::effects::Effect;
use crate::town::reconcile::Action;
use crate::town::{dispatch, pause};

#[test]
fn a_paused_town_starts_and_merges_nothing_and_what_runs_goes_on() {
    let mut town = Bench::new();
    let (running, _) = town.hooked();
    town.act(|draft| dispatch::request(draft, running)).unwrap();
    let (waiting, _) = town.hooked();
    let (_, entry_id) = town.in_review();
    let dispatch = Action::Dispatch { agent_id: waiting };
    let merge = Action::Merge { entry_id };
    assert_eq!(town.planned(), [dispatch.clone(), merge.clone()]);
    for _ in 0..2 {
        town.act(|draft| pause::set_town(draft, true)).unwrap();
        assert_eq!(town.planned(), []);
    }
    assert_eq!(town.agent(running).status, AgentStatus::Working);
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert_eq!(town.planned(), [dispatch, merge]);
    let told = |what: &str| town.facts.iter().filter(|fact| *fact == what).count();
    assert_eq!((told("town.paused"), told("town.resumed")), (1, 1));
}

#[test]
fn a_paused_rig_holds_only_itself() {
    let mut town = Bench::new();
    let (here, _) = town.hooked();
    std::mem::swap(&mut town.rig_id, &mut town.other_rig_id);
    let (there, _) = town.hooked();
    let rig_id = town.rig_id;
    town.act(|draft| pause::set_rig(draft, rig_id, true))
        .unwrap();
    assert_eq!(town.planned(), [Action::Dispatch { agent_id: here }]);
    town.act(|draft| pause::set_rig(draft, rig_id, false))
        .unwrap();
    let both = [here, there].map(|agent_id| Action::Dispatch { agent_id });
    assert_eq!(town.planned(), both);
}

#[test]
fn stop_all_stops_every_run_and_keeps_the_hooks() {
    let mut town = Bench::new();
    let (running, bead_id) = town.hooked();
    town.act(|draft| dispatch::request(draft, running)).unwrap();
    let (waiting, _) = town.hooked();
    let stopped = town.act(pause::stop_all).unwrap();
    assert_eq!(stopped, [running]);
    assert!(town.effects.contains(&Effect::HaltAgent(running)));
    assert!(!town.effects.contains(&Effect::HaltAgent(waiting)));
    town.act(|draft| dispatch::stopped(draft, running, "asked to"))
        .unwrap();
    let agent = town.agent(running);
    assert_eq!((agent.hook, agent.dispatch.attempts), (Some(bead_id), 0));
    assert_eq!(town.planned(), [], "it stays stopped");
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert_eq!(town.planned().len(), 2);
}

#[test]
fn stopping_an_agent_gives_its_bead_back() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, bead_id) = town.hooked();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    let stopped = town
        .act(|draft| pause::stop_agent(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(stopped.bead_id, Some(bead_id));
    assert!(town.effects.contains(&Effect::HaltAgent(agent_id)));
    assert_eq!(town.bead(bead_id).status, BeadStatus::Open);
    assert_eq!(town.agent(agent_id).hook, None);
    town.act(|draft| dispatch::stopped(draft, agent_id, "asked to"))
        .unwrap();
    assert_eq!(town.planned(), []);
    let again = town
        .act(|draft| pause::stop_agent(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(again.bead_id, None, "there is nothing to stop");
}
