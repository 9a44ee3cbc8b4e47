//! Asks, escalations and the mayor.

use std::time::Duration;

use serde_json::json;

use super::bench::{ASK_PATIENCE, Bench, escalation};
use crate::container::Asked;
use crate::container::protocol::PermissionAnswer;
use crate::model::{
    AgentId, AgentStatus, Ask, AskId, AskKind, BeadId, BeadStatus, Epoch, Json, Priority,
};
use crate::town::command::{BeadActor, CompletedStatus};
use crate::town::effects::Effect;
use crate::town::{AskReply, agents, asks, dispatch, escalations, link, mail, mayor, runs};

fn asked(name: &str, kind: AskKind) -> Asked {
    let detail = json!({"questions": [{"question": "which colour?"}], "metadata": {}});
    Asked {
        ask_id: name.to_owned(),
        kind,
        title: "which colour?".to_owned(),
        detail: Json::from_valid(detail.to_string()),
    }
}

fn answers(count: usize) -> AskReply {
    AskReply::Answers(vec![vec!["Blue".to_owned()]; count])
}

impl Bench {
    fn asks(&mut self) -> Vec<Ask> {
        self.act(|draft| Ok(asks::all(draft.tree)?)).unwrap()
    }

    /// A running polecat that asks this; the polecat and the ask.
    fn asking(&mut self, kind: AskKind) -> (AgentId, AskId) {
        let (agent_id, _) = self.hooked();
        self.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        self.act(|draft| asks::opened(draft, agent_id, asked("one", kind)))
            .unwrap();
        let asks = self.asks();
        let own = asks.iter().find(|ask| ask.agent_id == agent_id).unwrap();
        (agent_id, own.ask_id)
    }

    fn mayor_mail(&mut self) -> Vec<String> {
        let mails = self.act(|draft| {
            let mayor = draft.mayor()?.unwrap();
            draft.undelivered(mayor.agent_id)
        });
        mails
            .unwrap()
            .into_iter()
            .map(|mail| mail.subject)
            .collect()
    }

    fn raise(&mut self, priority: Priority) -> BeadId {
        let mut new = escalation(None);
        new.priority = priority;
        let rig_id = self.rig_id;
        self.act(|draft| escalations::raise(draft, Some(rig_id), new))
            .unwrap()
            .bead_id
    }

    /// Whether the hook is to be run for it.
    fn awaits_notice(&mut self, bead_id: BeadId) -> bool {
        let rows = self.act(|draft| Ok(escalations::unattended(draft.tree)?));
        let mut rows = rows.unwrap().into_iter();
        rows.any(|row| row.bead_id == bead_id && row.notify)
    }
}

#[test]
fn an_ask_is_there_until_it_is_gone_and_its_agent_waits() {
    let mut town = Bench::new();
    let (agent_id, _) = town.asking(AskKind::Question);
    town.act(|draft| asks::opened(draft, agent_id, asked("two", AskKind::Permission)))
        .unwrap();
    assert_eq!(town.agent(agent_id).status, AgentStatus::Waiting);
    assert_eq!(town.asks().len(), 2);
    assert_eq!(town.escalations(), [], "it is people's turn first");
    town.act(|draft| asks::closed(draft, agent_id, "one"))
        .unwrap();
    assert_eq!(town.agent(agent_id).status, AgentStatus::Waiting, "for two");
    town.act(|draft| asks::closed(draft, agent_id, "two"))
        .unwrap();
    assert_eq!(town.agent(agent_id).status, AgentStatus::Working);
    assert_eq!(town.asks(), []);
}

#[test]
fn whatever_ends_the_turn_or_the_agent_ends_its_asks() {
    type End = fn(&mut Bench, AgentId);
    let ends: [(&str, End); 6] = [
        ("its turn ended", |town, agent_id| {
            town.act(|draft| dispatch::idle(draft, agent_id)).unwrap();
            assert_eq!(town.agent(agent_id).status, AgentStatus::Working);
        }),
        ("it was stopped", |town, agent_id| {
            town.act(|draft| dispatch::stopped(draft, agent_id, "drained"))
                .unwrap();
        }),
        ("it failed", |town, agent_id| {
            let kind = crate::container::ExitKind::AgentServer;
            town.act(|draft| dispatch::failed(draft, agent_id, kind, "crashed"))
                .unwrap();
        }),
        ("it was deleted", |town, agent_id| {
            let rig_id = town.rig_id;
            town.act(|draft| agents::delete(draft, rig_id, agent_id))
                .unwrap();
        }),
        ("the container ended", |town, _| {
            town.act(|draft| link::down(draft, "killed")).unwrap();
        }),
        ("another container came", |town, _| {
            town.act(|draft| link::up(draft, Epoch::random())).unwrap();
        }),
    ];
    for (what, end) in ends {
        let mut town = Bench::new();
        let (agent_id, ask_id) = town.asking(AskKind::Question);
        town.act(|draft| asks::escalate(draft, ask_id)).unwrap();
        let raised = town.escalations()[0].bead_id;
        end(&mut town, agent_id);
        assert_eq!(town.asks(), [], "{what}");
        assert_eq!(town.bead(raised).status, BeadStatus::Closed, "{what}");
        assert_eq!(
            town.refused(|draft| asks::reply(draft, ask_id, answers(1))),
            "AskNotFound"
        );
    }
}

#[test]
fn an_answer_must_fit_the_ask_and_is_given_once() {
    let once = || AskReply::Permission(PermissionAnswer::Once);
    let mut town = Bench::new();
    let (_, question) = town.asking(AskKind::Question);
    let (_, permission) = town.asking(AskKind::Permission);
    let misfits = [
        (question, once()),
        (question, answers(0)),
        (question, answers(2)),
        (permission, answers(1)),
        (permission, AskReply::NoAnswer),
    ];
    let (facts, effects) = (town.facts.len(), town.effects.len());
    for (ask_id, answer) in misfits {
        let refused = town.refused(|draft| asks::reply(draft, ask_id, answer));
        assert_eq!(refused, "Invalid");
    }
    assert_eq!((town.facts.len(), town.effects.len()), (facts, effects));
    for (ask_id, answer, body) in [
        (
            question,
            answers(1),
            r#"{"answers":[["Blue"]],"reject":false}"#,
        ),
        (permission, once(), r#"{"reply":"once"}"#),
    ] {
        town.act(|draft| asks::reply(draft, ask_id, answer.clone()))
            .unwrap();
        assert!(town.effects.contains(&Effect::AnswerAsk(ask_id)));
        let asks = town.asks();
        let ask = asks.iter().find(|ask| ask.ask_id == ask_id).unwrap();
        assert_eq!(ask.answer.as_ref().unwrap().as_str(), body, "it stays");
        let refused = town.refused(|draft| asks::reply(draft, ask_id, answer));
        assert_eq!(refused, "AskAnswered");
    }
    // One that did not arrive may be given again, and one the container does not know is gone.
    town.act(|draft| asks::reply_failed(draft, question, "no answer"))
        .unwrap();
    let failed = town.asks().into_iter().find(|ask| ask.ask_id == question);
    assert_eq!(failed.unwrap().last_error.as_deref(), Some("no answer"));
    town.act(|draft| asks::reply(draft, question, AskReply::NoAnswer))
        .unwrap();
    town.act(|draft| asks::unknown(draft, permission)).unwrap();
    assert_eq!(town.asks().len(), 1);
}

#[test]
fn an_answer_under_way_is_given_again_to_the_same_container() {
    let mut town = Bench::new();
    let epoch = Epoch::random();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    let (_, ask_id) = town.asking(AskKind::Question);
    town.act(|draft| asks::reply(draft, ask_id, answers(1)))
        .unwrap();
    town.effects.clear();
    town.act(|draft| link::up(draft, epoch)).unwrap();
    assert!(town.effects.contains(&Effect::AnswerAsk(ask_id)));
}

#[test]
fn an_ask_is_bounded_in_size_and_number() {
    let mut town = Bench::new();
    let (agent_id, _) = town.asking(AskKind::Permission);
    for number in 0..200 {
        let mut long = asked(&format!("more-{number}"), AskKind::Permission);
        let detail = json!({"permission": "edit", "metadata": {"diff": "x".repeat(100_000)}});
        long.detail = Json::from_valid(detail.to_string());
        town.act(|draft| asks::opened(draft, agent_id, long))
            .unwrap();
    }
    let asks = town.asks();
    assert_eq!(asks.len(), 64);
    let cut = asks.iter().find(|ask| ask.server_id == "more-0").unwrap();
    assert_eq!(cut.detail.as_str(), r#"{"permission":"edit"}"#);
}

#[test]
fn an_unanswered_ask_escalates_once_and_tells_the_mayor() {
    let mut town = Bench::new();
    let (_, ask_id) = town.asking(AskKind::Question);
    let ask = town.asks().remove(0);
    let due = asks::escalates_at(&ask, ASK_PATIENCE);
    assert_eq!(due, Some(town.now.after(ASK_PATIENCE)));
    for _ in 0..2 {
        town.act(|draft| asks::escalate(draft, ask_id)).unwrap();
    }
    assert_eq!(town.escalations().len(), 1);
    assert_eq!(town.mayor_mail().len(), 1);
    let ask = town.asks().remove(0);
    assert_eq!(asks::escalates_at(&ask, ASK_PATIENCE), None);
    assert_eq!(ask.escalation, Some(town.escalations()[0].bead_id));
}

#[test]
fn severity_says_who_hears_of_an_escalation() {
    let cases = [
        (Priority::Low, 0, false),
        (Priority::Medium, 1, false),
        (Priority::High, 1, true),
        (Priority::Critical, 1, true),
    ];
    for (priority, mails, notified) in cases {
        let mut town = Bench::new();
        let bead_id = town.raise(priority);
        assert_eq!(town.mayor_mail().len(), mails, "{priority}");
        assert_eq!(town.awaits_notice(bead_id), notified, "{priority}");
    }
}

#[test]
fn the_hook_hears_of_an_escalation_once_each_time_it_is_raised() {
    let mut town = Bench::new();
    let bead_id = town.raise(Priority::High);
    town.act(|draft| escalations::notify(draft, bead_id))
        .unwrap();
    assert!(town.effects.contains(&Effect::Notify(bead_id)));
    assert!(town.awaits_notice(bead_id), "until it has heard");
    let failed = Err("no route".to_owned());
    town.act(|draft| escalations::notified(draft, bead_id, failed))
        .unwrap();
    assert!(!town.awaits_notice(bead_id));
    assert_eq!(town.facts.last().unwrap(), "escalation.notify_failed");
    town.act(|draft| escalations::raise_again(draft, bead_id))
        .unwrap();
    assert!(town.awaits_notice(bead_id));
}

#[test]
fn what_nobody_takes_up_is_raised_three_times_more_and_more_severely() {
    let mut town = Bench::new();
    let bead_id = town.raise(Priority::Low);
    let mut severities = Vec::new();
    loop {
        let rows = town
            .act(|draft| Ok(escalations::unattended(draft.tree)?))
            .unwrap();
        assert_eq!(rows.len(), 1);
        let Some(at) = escalations::raised_again_at(&rows[0]) else {
            break;
        };
        assert_eq!(at, town.now.after(escalations::PATIENCE));
        town.later(escalations::PATIENCE);
        town.act(|draft| escalations::raise_again(draft, bead_id))
            .unwrap();
        severities.push(town.bead(bead_id).priority);
    }
    assert_eq!(
        severities,
        [Priority::Medium, Priority::High, Priority::Critical]
    );
    assert_eq!(town.mayor_mail().len(), 3);
    let facts = town.facts.len();
    town.act(|draft| escalations::raise_again(draft, bead_id))
        .unwrap();
    assert_eq!(town.facts.len(), facts, "and never a fourth time");
}

#[test]
fn what_was_taken_up_closed_or_deleted_is_never_raised_again() {
    type Settle = fn(&mut Bench, BeadId);
    let ways: [Settle; 4] = [
        |town, bead_id| {
            town.act(|draft| escalations::acknowledge(draft, bead_id))
                .unwrap();
        },
        |town, bead_id| {
            town.set_status(bead_id, BeadStatus::Closed, BeadActor::User(None))
                .unwrap();
        },
        |town, bead_id| {
            for status in [BeadStatus::Failed, BeadStatus::Open] {
                town.set_status(bead_id, status, BeadActor::User(None))
                    .unwrap();
            }
        },
        |town, bead_id| {
            let rig_id = town.rig_id;
            town.act(|draft| crate::town::beads::delete(draft, rig_id, bead_id))
                .unwrap();
        },
    ];
    for settle in ways {
        let mut town = Bench::new();
        let bead_id = town.raise(Priority::High);
        settle(&mut town, bead_id);
        let rows = town.act(|draft| Ok(escalations::unattended(draft.tree)?));
        assert_eq!(rows.unwrap(), []);
        let facts = town.facts.len();
        town.act(|draft| escalations::raise_again(draft, bead_id))
            .unwrap();
        assert_eq!(town.facts.len(), facts);
    }
}

#[test]
fn the_mayor_comes_with_the_first_rig_and_goes_alone() {
    let mut town = Bench::new();
    let mayor = |town: &mut Bench| town.act(|draft| draft.mayor()).unwrap();
    let first = mayor(&mut town).expect("two rigs were made");
    town.act(|draft| mail::tell_mayor(draft, "hello".to_owned()))
        .unwrap();
    town.act(mayor::destroy).unwrap();
    assert_eq!(mayor(&mut town), None);
    assert!(town.effects.iter().any(
        |effect| matches!(effect, Effect::RemoveAgent { agent_id, .. } if *agent_id == first.agent_id)
    ));
    town.act(mayor::destroy).expect("again is nothing");
    let over = |town: &mut Bench| {
        town.act(|draft| mayor::completed(draft, CompletedStatus::Failed, Some("tired")))
    };
    assert!(over(&mut town).is_err());
    town.raise(Priority::Critical);
    assert_eq!(mayor(&mut town), None, "nobody else makes one");
    let second = town.act(agents::mayor).unwrap();
    assert_ne!(second.agent_id, first.agent_id);
    assert_eq!(town.mayor_mail(), [""; 0], "nothing of the first one's");
    over(&mut town).unwrap();
}

#[test]
fn a_start_by_hand_calls_the_scheduler_and_a_stop_takes_the_work_away() {
    let mut town = Bench::new();
    let idle = town.polecat();
    assert_eq!(town.refused(|draft| runs::start(draft, idle)), "HookEmpty");
    let (agent_id, bead_id) = town.hooked();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    assert_eq!(
        town.refused(|draft| runs::start(draft, agent_id)),
        "AgentRunning"
    );
    let kind = crate::container::ExitKind::AgentServer;
    town.act(|draft| dispatch::failed(draft, agent_id, kind, "crashed"))
        .unwrap();
    assert!(town.agent(agent_id).dispatch.due_at > town.now);
    town.act(|draft| runs::start(draft, agent_id)).unwrap();
    assert_eq!(town.agent(agent_id).dispatch.due_at, town.now);
    town.later(Duration::from_secs(1));
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| runs::stop(draft, agent_id)).unwrap();
    assert!(town.effects.contains(&Effect::StopAgent(agent_id)));
    assert_eq!(town.bead(bead_id).status, BeadStatus::Open);
    let nobody = AgentId::random();
    assert_eq!(
        town.refused(|draft| runs::stop(draft, nobody)),
        "AgentNotFound"
    );
}
