use std::time::Duration;

use super::bench::Bench;
use crate::model::{AgentId, AgentStatus, BeadStatus};
use crate::town::effects::Effect;
use crate::town::reconcile::Action;
use crate::town::{agents, dispatch, patrol};

const HALF_HOUR: Duration = Duration::from_secs(30 * 60);

impl Bench {
    /// An agent at work that falls silent now.
    fn working(&mut self) -> AgentId {
        let (agent_id, _) = self.hooked();
        self.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        self.act(|draft| dispatch::started(draft, agent_id, "s".to_owned(), false))
            .unwrap();
        agent_id
    }

    /// Does what the patrol wants, and says what that was.
    fn patrolled(&mut self) -> Vec<Action> {
        let actions = self.planned();
        for action in &actions {
            match action {
                Action::CheckAgent { agent_id } => {
                    self.act(|draft| patrol::check(draft, *agent_id)).unwrap();
                }
                Action::StallAgent { agent_id } => {
                    self.act(|draft| patrol::stall(draft, *agent_id)).unwrap();
                }
                other => panic!("not the patrol's: {other:?}"),
            }
        }
        actions
    }
}

#[test]
fn a_silent_agent_is_asked_once_and_then_a_person_is() {
    let mut town = Bench::new();
    let agent_id = town.working();
    town.later(HALF_HOUR - Duration::from_millis(1));
    assert_eq!(town.patrolled(), []);
    town.later(Duration::from_millis(1));
    assert_eq!(town.patrolled(), [Action::CheckAgent { agent_id }]);
    let mails = town.act(|draft| draft.undelivered(agent_id)).unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject, "GUPP_CHECK");
    assert!(town.effects.contains(&Effect::Nudge(agent_id)));
    assert_eq!(town.patrolled(), [], "one mail for one silence");
    assert_eq!(town.agent(agent_id).status, AgentStatus::Working);
    town.later(HALF_HOUR);
    assert_eq!(town.patrolled(), [Action::StallAgent { agent_id }]);
    assert_eq!(town.agent(agent_id).status, AgentStatus::Stalled);
    let escalations = town.escalations();
    assert_eq!(escalations.len(), 1);
    town.later(HALF_HOUR);
    assert_eq!(town.patrolled(), []);
    let agent = town.agent(agent_id);
    assert!(agent.hook.is_some(), "and it is never stopped");
    assert!(!town.effects.contains(&Effect::StopAgent(agent_id)));
    // It was a long build after all.
    town.act(|draft| agents::touch(draft, agent_id)).unwrap();
    assert_eq!(town.agent(agent_id).status, AgentStatus::Working);
    let closed = town.bead(escalations[0].bead_id);
    assert_eq!(closed.status, BeadStatus::Closed);
    town.later(HALF_HOUR);
    assert_eq!(
        town.patrolled(),
        [Action::CheckAgent { agent_id }],
        "a new silence"
    );
}

#[test]
fn signs_of_life_put_the_question_off() {
    let mut town = Bench::new();
    let agent_id = town.working();
    for _ in 0..5 {
        town.later(HALF_HOUR - Duration::from_secs(1));
        town.act(|draft| agents::touch(draft, agent_id)).unwrap();
        assert_eq!(town.patrolled(), []);
    }
}

#[test]
fn one_that_waits_for_a_person_or_does_not_run_is_not_asked() {
    let mut town = Bench::new();
    let waiting = town.working();
    let asked = crate::container::Asked {
        ask_id: "ask".to_owned(),
        kind: crate::model::AskKind::Question,
        title: "which?".to_owned(),
        detail: crate::model::Json::empty_object(),
    };
    town.act(|draft| crate::town::asks::opened(draft, waiting, asked))
        .unwrap();
    let (idle, _) = town.hooked();
    town.later(10 * HALF_HOUR);
    assert_eq!(town.planned(), [Action::Dispatch { agent_id: idle }]);
}

#[test]
fn the_escalation_of_a_silent_agent_ends_with_its_run() {
    let mut town = Bench::new();
    let agent_id = town.working();
    for _ in 0..2 {
        town.later(HALF_HOUR);
        town.patrolled();
    }
    let escalation = town.escalations()[0].bead_id;
    town.act(|draft| dispatch::stopped(draft, agent_id, "asked to"))
        .unwrap();
    assert_eq!(town.agent(agent_id).status, AgentStatus::Idle);
    assert_eq!(town.bead(escalation).status, BeadStatus::Closed);
}
