//! What fails again and again comes to an end that people hear of.

use super::bench::{ATTEMPTS_MAX, Bench};
use crate::container::{ContainerReport, ExitKind};
use crate::model::{AgentId, BeadStatus, ContainerState, ReviewStatus};
use crate::town::effects::Effect;
use crate::town::reconcile::Action;
use crate::town::reviews::MERGE_ATTEMPTS_MAX;
use crate::town::{container, dispatch, link, mail, pause, reviews, runs};

impl Bench {
    /// A mayor that was spoken to.
    fn called_mayor(&mut self) -> AgentId {
        self.act(|draft| mail::tell_mayor(draft, "hello".to_owned()))
            .unwrap()
            .agent_id
    }

    /// Whether the alarm would start that agent now.
    fn starts(&self, agent_id: AgentId) -> bool {
        self.all_planned().contains(&Action::Dispatch { agent_id })
    }

    /// Starts the mayor as often as the alarm wants it, and fails each time by `fail`; how often.
    fn fail_mayor(&mut self, agent_id: AgentId, fail: fn(&mut Bench, AgentId)) -> u32 {
        let mut tries = 0;
        for _ in 0..10 * ATTEMPTS_MAX {
            if self.starts(agent_id) {
                fail(self, agent_id);
                tries += 1;
            }
            self.later(super::bench::BACKOFF_MAX);
        }
        tries
    }

    /// Whether the alarm would start the container now, being asleep or having failed.
    fn wakes(&self) -> bool {
        self.planned_as_it_is().contains(&Action::WakeContainer)
    }

    fn open_calls(&self, title: &str) -> usize {
        let escalations = self.escalations().into_iter();
        escalations
            .filter(|bead| bead.title == title && !bead.status.is_terminal())
            .count()
    }
}

const NOT_SPOKEN_TO: &str = "the mayor can't be spoken to";

fn fails_to_start(town: &mut Bench, agent_id: AgentId) {
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::failed(draft, agent_id, ExitKind::NotReady, "no such program"))
        .unwrap();
}

/// It has a session each time, and dies of what is said to it.
fn dies_of_its_first_words(town: &mut Bench, agent_id: AgentId) {
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::started(draft, agent_id, "s".to_owned(), false))
        .unwrap();
    town.act(|draft| dispatch::failed(draft, agent_id, ExitKind::Session, "no model"))
        .unwrap();
}

#[test]
fn a_mayor_that_can_not_start_is_given_up_and_people_are_called() {
    for fail in [fails_to_start, dies_of_its_first_words] {
        let mut town = Bench::new();
        let mayor = town.called_mayor();
        assert_eq!(town.fail_mayor(mayor, fail), ATTEMPTS_MAX);
        assert_eq!(town.open_calls(NOT_SPOKEN_TO), 1);
        let told = |town: &Bench| {
            let facts = town.facts.iter();
            facts.filter(|fact| *fact == "agent.given_up").count()
        };
        assert_eq!(told(&town), 1);
        let waiting = town.act(|draft| draft.undelivered(mayor)).unwrap();
        assert!(!waiting.is_empty(), "what was said to it waits");
    }
}

#[test]
fn whoever_wants_a_given_up_mayor_gives_it_all_its_tries_again() {
    type Wish = fn(&mut Bench, AgentId);
    let wishes: [Wish; 4] = [
        |town, _| {
            town.called_mayor();
        },
        |town, _| {
            town.act(|draft| pause::set_town(draft, false)).unwrap();
        },
        |town, mayor| {
            town.act(|draft| runs::start(draft, mayor)).unwrap();
        },
        // An agent has finished its work: agents can work again.
        |town, _| {
            town.in_review();
        },
    ];
    for wish in wishes {
        let mut town = Bench::new();
        let mayor = town.called_mayor();
        town.fail_mayor(mayor, fails_to_start);
        assert!(!town.starts(mayor));
        wish(&mut town, mayor);
        assert!(town.starts(mayor));
        assert_eq!(town.fail_mayor(mayor, fails_to_start), ATTEMPTS_MAX);
    }
}

#[test]
fn a_mayor_that_listens_again_needs_nobody() {
    let mut town = Bench::new();
    let mayor = town.called_mayor();
    town.fail_mayor(mayor, fails_to_start);
    town.called_mayor();
    town.act(|draft| dispatch::request(draft, mayor)).unwrap();
    town.act(|draft| dispatch::started(draft, mayor, "s".to_owned(), false))
        .unwrap();
    assert_eq!(
        town.open_calls(NOT_SPOKEN_TO),
        1,
        "a session alone is no ear"
    );
    town.act(|draft| dispatch::turn_ended(draft, mayor))
        .unwrap();
    assert_eq!(town.open_calls(NOT_SPOKEN_TO), 0);
    assert_eq!(town.agent(mayor).dispatch.attempts, 0);
}

#[test]
fn a_mayor_whose_session_takes_no_message_is_given_up() {
    let mut town = Bench::new();
    let mayor = town.called_mayor();
    town.act(|draft| dispatch::request(draft, mayor)).unwrap();
    town.act(|draft| dispatch::started(draft, mayor, "s".to_owned(), false))
        .unwrap();
    let told = Action::TellMayor { agent_id: mayor };
    let mut tries = 0;
    for _ in 0..10 * ATTEMPTS_MAX {
        if town.all_planned().contains(&told) {
            town.act(|draft| dispatch::not_told(draft, mayor)).unwrap();
            // The container knows it, and nothing runs there.
            town.act(|draft| dispatch::found_idle(draft, mayor))
                .unwrap();
            tries += 1;
        }
        town.later(super::bench::BACKOFF_MAX);
    }
    assert_eq!(tries, ATTEMPTS_MAX - 1, "its start was one");
    assert_eq!(town.open_calls(NOT_SPOKEN_TO), 1);
    assert!(town.effects.contains(&Effect::StopAgent(mayor)));
    assert!(!town.starts(mayor));
}

#[test]
fn a_merge_that_never_answers_is_asked_for_a_few_times_and_then_fails() {
    type Loss = fn(&mut Bench);
    let losses: [(&str, Loss); 3] = [
        ("it is silent", |town| {
            // As the alarm does.
            let stuck = town
                .all_planned()
                .into_iter()
                .find_map(|action| match action {
                    Action::RequeueStuck { entry_id } => Some(entry_id),
                    _ => None,
                });
            if let Some(entry_id) = stuck {
                town.act(|draft| reviews::running_failed(draft, entry_id, "silent"))
                    .unwrap();
            }
        }),
        ("its container dies", |town| {
            town.act(|draft| link::down(draft, "killed")).unwrap();
        }),
        ("another container comes", |town| {
            town.act(|draft| link::up(draft, crate::model::Epoch::random()))
                .unwrap();
        }),
    ];
    for (what, lose) in losses {
        let mut town = Bench::new();
        let (bead_id, entry_id) = town.in_review();
        let mut asked = 0;
        for _ in 0..20 * MERGE_ATTEMPTS_MAX {
            if town.all_planned().contains(&Action::Merge { entry_id }) {
                town.act(|draft| reviews::start(draft, entry_id)).unwrap();
                asked += 1;
            } else {
                lose(&mut town);
            }
            town.later(super::bench::BACKOFF_MAX);
        }
        assert_eq!(asked, MERGE_ATTEMPTS_MAX, "{what}");
        let review = town.act(|draft| draft.review(entry_id)).unwrap();
        assert_eq!(review.status, ReviewStatus::Failed, "{what}");
        assert!(review.message.unwrap().starts_with("5 tries failed"));
        assert_eq!(town.bead(bead_id).status, BeadStatus::Failed, "{what}");
        assert_eq!(town.escalations().len(), 1, "{what}");
    }
}

#[test]
fn a_container_that_can_not_start_is_given_up_and_nobodys_work_fails() {
    let mut town = Bench::new();
    let (bead_id, entry_id) = town.in_review();
    let mut tries = 0;
    while town.wakes() {
        town.act(|draft| container::start(draft, "a branch waits"))
            .unwrap();
        town.act(|draft| container::start_failed(draft, "no such program"))
            .unwrap();
        tries += 1;
        assert!(!town.wakes(), "not at once");
        town.later(super::bench::BACKOFF_MAX);
    }
    assert_eq!(tries, ATTEMPTS_MAX);
    assert_eq!(town.open_calls("the town's container can't be started"), 1);
    assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!((review.status, review.attempts), (ReviewStatus::Pending, 0));
    // Somebody asks, and it has all its tries again; when it answers nobody need look any more.
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert!(town.wakes());
    town.act(|draft| container::start(draft, "a branch waits"))
        .unwrap();
    let epoch = crate::model::Epoch::random();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    assert_eq!(town.open_calls("the town's container can't be started"), 0);
    assert!(town.all_planned().contains(&Action::Merge { entry_id }));
}

#[test]
fn a_container_that_was_drained_has_cost_nobody_a_try() {
    let mut town = Bench::new();
    let mayor = town.called_mayor();
    let epoch = crate::model::Epoch::random();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    town.act(|draft| dispatch::request(draft, mayor)).unwrap();
    let draining = ContainerReport::Draining {
        reason: "a signal ended it".to_owned(),
    };
    town.act(|draft| container::told(draft, draining)).unwrap();
    town.act(|draft| link::down(draft, "gone")).unwrap();
    let agent = town.act(|draft| draft.agent(mayor)).unwrap();
    assert_eq!(agent.dispatch.attempts, 0);
    assert_eq!(agent.dispatch.requested_at, None);
    let life = town.act(|draft| draft.container()).unwrap();
    assert_eq!(life.state, ContainerState::Asleep);
    assert_eq!(life.reason.unwrap(), "it was drained: a signal ended it");
    // One that dies unasked has.
    town.act(|draft| link::up(draft, crate::model::Epoch::random()))
        .unwrap();
    town.act(|draft| dispatch::request(draft, mayor)).unwrap();
    town.act(|draft| link::down(draft, "gone")).unwrap();
    let agent = town.act(|draft| draft.agent(mayor)).unwrap();
    assert_eq!(agent.dispatch.attempts, 1);
}

#[test]
fn a_reminder_that_a_drain_kept_back_was_none() {
    let mut town = Bench::new();
    let mayor = town.called_mayor();
    town.act(|draft| {
        let mut agent = draft.agent(mayor)?;
        agent.dispatch.reminders = 3;
        draft.set_agent(agent)
    })
    .unwrap();
    town.act(|draft| dispatch::reminder_deferred(draft, mayor))
        .unwrap();
    let agent = town.act(|draft| draft.agent(mayor)).unwrap();
    assert_eq!(agent.dispatch.reminders, 2);
}
