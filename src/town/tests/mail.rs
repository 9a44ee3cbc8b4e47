use std::time::Duration;

use super::bench::{Bench, mail};
use crate::model::{AgentId, AgentRole, Mail, MailType};
use crate::town::command::{NewMail, NewNudge};
use crate::town::reconcile::Action;
use crate::town::{agents, mail as transitions};

fn nudge(town: &mut Bench, to: AgentId, seconds: u64) -> Mail {
    let rig_id = town.rig_id;
    let new = NewNudge {
        from_agent_id: "user".to_owned(),
        message: "how far are you?".to_owned(),
        time_to_live: Duration::from_secs(seconds),
    };
    town.act(|draft| transitions::nudge(draft, Some(rig_id), to, new))
        .unwrap()
}

fn check(town: &mut Bench, agent_id: AgentId) -> Vec<Mail> {
    let rig_id = town.rig_id;
    town.act(|draft| transitions::check(draft, rig_id, agent_id))
        .unwrap()
}

fn dropped(town: &Bench) -> usize {
    let facts = town.facts.iter();
    facts.filter(|fact| *fact == "nudge.dropped").count()
}

#[test]
fn a_nudge_is_handed_over_in_time_and_dropped_after_it() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    nudge(&mut town, agent_id, 60);
    town.later(Duration::from_secs(59));
    let given = check(&mut town, agent_id);
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].mail_type, MailType::Nudge);

    nudge(&mut town, agent_id, 60);
    town.later(Duration::from_secs(60));
    assert!(check(&mut town, agent_id).is_empty(), "it came too late");
    assert_eq!(dropped(&town), 1);
    let newest = &town.mailbox(agent_id)[0];
    assert!(newest.dropped.is_some() && newest.delivered_at.is_none());
    assert!(check(&mut town, agent_id).is_empty());
    assert_eq!(dropped(&town), 1, "dropped once");
}

#[test]
fn a_nudge_about_other_work_is_dropped() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    let first = town.open_bead();
    town.hook(agent_id, first).unwrap();
    nudge(&mut town, agent_id, 600);
    let rig_id = town.rig_id;
    town.act(|draft| agents::unhook(draft, rig_id, agent_id))
        .unwrap();
    assert!(check(&mut town, agent_id).is_empty());
    assert_eq!(dropped(&town), 1);
}

#[test]
fn the_alarm_rings_when_a_nudge_expires_and_records_it() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    nudge(&mut town, agent_id, 60);
    nudge(&mut town, agent_id, 30);
    assert!(town.planned().is_empty(), "not yet");
    town.later(Duration::from_secs(30));
    assert_eq!(town.planned(), [Action::DropNudges { agent_id }]);
    town.act(|draft| transitions::drop_stale(draft, agent_id))
        .unwrap();
    assert_eq!(dropped(&town), 1, "the other is still worth something");
    assert!(town.planned().is_empty());
    let rig_id = town.rig_id;
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    town.later(Duration::from_secs(600));
    assert!(
        town.planned().is_empty(),
        "nothing is left of a deleted agent"
    );
}

#[test]
fn a_mailbox_holds_both_ways_newest_first_and_marks_nothing() {
    let mut town = Bench::new();
    let (one, two) = (town.polecat(), town.polecat());
    let rig_id = town.rig_id;
    let ways = [
        (one, two.to_string()),
        (two, one.to_string()),
        (one, one.to_string()),
        (two, "user".to_owned()),
        (one, "user".to_owned()),
    ];
    let mut sent = Vec::new();
    for (to, from) in &ways {
        let new = mail(*to, from);
        sent.push(
            town.act(|draft| transitions::send(draft, Some(rig_id), new))
                .unwrap()
                .mail_id,
        );
    }
    let ids = |town: &Bench, agent| -> Vec<_> {
        let mails = town.mailbox(agent).into_iter();
        mails.map(|mail| mail.mail_id).collect()
    };
    assert_eq!(ids(&town, one), [sent[4], sent[2], sent[1], sent[0]]);
    assert_eq!(ids(&town, two), [sent[3], sent[1], sent[0]]);
    assert_eq!(check(&mut town, one).len(), 3, "the mailbox marked nothing");
    town.act(|draft| agents::delete(draft, rig_id, two))
        .unwrap();
    assert_eq!(ids(&town, one), [sent[4], sent[2], sent[0]]);
    assert_eq!(ids(&town, two), [sent[0]], "what it sent stays");
    town.act(|draft| agents::delete(draft, rig_id, one))
        .unwrap();
    assert!(town.mailbox(two).is_empty(), "and goes with its receiver");
}

#[test]
fn a_call_for_help_reaches_people_and_is_folded() {
    let mut town = Bench::new();
    let (polecat, witness) = (town.polecat(), {
        let rig_id = town.rig_id;
        town.new_agent(rig_id, AgentRole::Witness).unwrap()
    });
    let rig_id = town.rig_id;
    for _ in 0..2 {
        let new = NewMail {
            mail_type: MailType::Help,
            ..mail(witness, &polecat.to_string())
        };
        town.act(|draft| transitions::send(draft, Some(rig_id), new))
            .unwrap();
    }
    assert_eq!(town.escalations().len(), 1);
    assert_eq!(check(&mut town, witness).len(), 2);
}

#[test]
fn the_town_writes_to_nobody_who_is_gone_and_does_not_flood() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    for number in 0..150 {
        let subject = format!("merged {number}");
        town.act(|draft| transitions::send_system(draft, agent_id, MailType::Merged, subject, ""))
            .unwrap();
    }
    town.act(|draft| {
        transitions::send_system(draft, agent_id, MailType::ReworkRequest, "mend", "it")
    })
    .unwrap();
    let given = check(&mut town, agent_id);
    assert_eq!(given.len(), 101, "what only informs is bounded");
    assert_eq!(given[100].mail_type, MailType::ReworkRequest);
    let facts = town.facts.len();
    town.act(|draft| {
        transitions::send_system(draft, AgentId::random(), MailType::MergeFailed, "s", "b")
    })
    .unwrap();
    assert_eq!(town.facts.len(), facts);
}

#[test]
fn a_hand_over_waits_for_the_next_session() {
    let mut town = Bench::new();
    let agent_id = town.polecat();
    let is_told = |town: &mut Bench| {
        let agent = town.agent(agent_id);
        town.act(|draft| transitions::is_to_be_told(draft, &agent))
            .unwrap()
    };
    let rig_id = town.rig_id;
    for (mail_type, told) in [(MailType::Handoff, false), (MailType::Message, true)] {
        let mut new = mail(agent_id, "user");
        new.mail_type = mail_type;
        town.act(|draft| transitions::send(draft, Some(rig_id), new))
            .unwrap();
        assert_eq!(is_told(&mut town), told, "{mail_type}");
    }
    let primed = town.act(|draft| agents::prime(draft, rig_id, agent_id));
    assert_eq!(primed.unwrap().undelivered_mail.len(), 2);
}
