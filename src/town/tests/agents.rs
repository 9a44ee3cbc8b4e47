use super::bench::{Bench, escalation, mail};
use crate::model::{AgentRole, AgentStatus, BeadStatus};
use crate::storage::MailKey;
use crate::town::command::{BeadActor, CompletedStatus, NewAgent};
use crate::town::effects::Effect;
use crate::town::{agents, escalations, mail as mails};

#[test]
fn a_hook_takes_one_bead_and_a_bead_one_hook() {
    let mut town = Bench::new();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let (holder, held) = town.hooked();
    let (free, open) = (town.polecat(), town.open_bead());
    let closed = town.open_bead();
    town.set_status(closed, BeadStatus::Closed, BeadActor::User(None))
        .unwrap();
    let failed = town.open_bead();
    town.set_status(failed, BeadStatus::Failed, BeadActor::User(None))
        .unwrap();
    let (in_review, _) = town.in_review();
    let stranger = town.new_agent(other, AgentRole::Polecat).unwrap();
    let foreign = town.new_bead(other);
    let cases = [
        (rig_id, holder, open, "AgentHooked"),
        (rig_id, free, held, "BeadHooked"),
        (rig_id, free, closed, "BeadTerminal"),
        (rig_id, free, failed, "BeadTerminal"),
        (rig_id, free, in_review, "BeadInReview"),
        (rig_id, stranger, open, "AgentNotFound"),
        (rig_id, free, foreign, "BeadNotFound"),
        (other, free, open, "AgentNotFound"),
    ];
    let facts = town.facts.len();
    for (rig_id, agent_id, bead_id, expected) in cases {
        let refused = town.refused(|draft| agents::hook(draft, rig_id, agent_id, bead_id));
        assert_eq!(refused, expected);
    }
    town.hook(holder, held).unwrap();
    assert_eq!(town.facts.len(), facts, "hooking the same again is nothing");
    town.hook(free, open).unwrap();
    assert_eq!(town.bead(open).assignee_agent_id, Some(free));
}

#[test]
fn unhooking_gives_the_bead_back() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, bead_id) = town.hooked();
    town.act(|draft| agents::unhook(draft, rig_id, agent_id))
        .unwrap();
    let bead = town.bead(bead_id);
    assert_eq!(
        (bead.status, bead.assignee_agent_id),
        (BeadStatus::Open, None)
    );
    assert_eq!(town.agent(agent_id).hook, None);
    assert!(town.effects.contains(&Effect::StopAgent(agent_id)));
    let facts = town.facts.len();
    town.act(|draft| agents::unhook(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(town.facts.len(), facts, "an empty hook stays empty");
}

#[test]
fn get_or_create_keeps_to_the_rig_and_to_the_role() {
    let mut town = Bench::new();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let mut get = |rig_id, role| {
        let agent = town.act(|draft| agents::get_or_create(draft, rig_id, role));
        agent.unwrap().agent_id
    };
    for role in [AgentRole::Refinery, AgentRole::Witness] {
        let here = get(rig_id, role);
        assert_eq!(get(rig_id, role), here, "one {role} per rig");
        assert_ne!(get(other, role), here, "each rig its own {role}");
    }
    let mayor = get(rig_id, AgentRole::Mayor);
    assert_eq!(get(other, AgentRole::Mayor), mayor, "one mayor per town");
    let polecat = get(rig_id, AgentRole::Polecat);
    assert_eq!(get(rig_id, AgentRole::Polecat), polecat, "a free one");
    assert_ne!(get(other, AgentRole::Polecat), polecat);
    assert_eq!(town.agent(mayor).rig_id, None);
    let bead_id = town.open_bead();
    town.hook(polecat, bead_id).unwrap();
    let second = town
        .act(|draft| agents::get_or_create(draft, rig_id, AgentRole::Polecat))
        .unwrap();
    assert_ne!(second.agent_id, polecat, "a busy one is not free");
    for role in [AgentRole::Refinery, AgentRole::Witness, AgentRole::Mayor] {
        let new = NewAgent {
            role,
            name: format!("another {role}"),
            identity: format!("another {role}"),
        };
        let refused = town.refused(|draft| agents::create(draft, rig_id, new));
        assert_eq!(refused, "RoleTaken", "{role}");
    }
}

#[test]
fn names_and_identities_are_unique_in_the_town() {
    let mut town = Bench::new();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let new = |name: &str, identity: &str| NewAgent {
        role: AgentRole::Polecat,
        name: name.to_owned(),
        identity: identity.to_owned(),
    };
    town.act(|draft| agents::create(draft, rig_id, new("a", "i")))
        .unwrap();
    let cases = [
        (rig_id, new("a", "j"), "AgentNameTaken"),
        (other, new("a", "j"), "AgentNameTaken"),
        (other, new("b", "i"), "IdentityTaken"),
    ];
    for (rig_id, new, expected) in cases {
        let refused = town.refused(|draft| agents::create(draft, rig_id, new));
        assert_eq!(refused, expected);
    }
}

#[test]
fn deleting_an_agent_reopens_only_what_it_was_doing() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (agent_id, closed) = town.hooked();
    town.set_status(closed, BeadStatus::Closed, BeadActor::User(None))
        .unwrap();
    let doing = town.open_bead();
    town.hook(agent_id, doing).unwrap();
    let reader = town.polecat();
    town.act(|draft| mails::send(draft, Some(rig_id), mail(reader, &agent_id.to_string())))
        .unwrap();
    town.act(|draft| mails::send(draft, Some(rig_id), mail(agent_id, "user")))
        .unwrap();
    town.act(|draft| agents::delete(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(town.bead(closed).status, BeadStatus::Closed);
    let reopened = town.bead(doing);
    assert_eq!(
        (reopened.status, reopened.assignee_agent_id),
        (BeadStatus::Open, None)
    );
    assert!(town.effects.iter().any(
        |effect| matches!(effect, Effect::RemoveAgent { agent_id: gone, .. } if *gone == agent_id)
    ));
    assert_eq!(
        town.refused(|draft| agents::delete(draft, rig_id, agent_id)),
        "AgentNotFound"
    );
    let sent = town
        .act(|draft| mails::check(draft, rig_id, reader))
        .unwrap();
    assert_eq!(sent.len(), 1, "what it wrote is still delivered");
    let left = town
        .act(|draft| Ok(draft.tree.scan(&MailKey::to(agent_id)).count()))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn deleting_the_author_leaves_a_review_in_the_queue() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (bead_id, entry_id) = town.in_review();
    let author = town.bead(bead_id).assignee_agent_id.unwrap();
    town.act(|draft| agents::delete(draft, rig_id, author))
        .unwrap();
    assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
    let waiting = town.act(|draft| crate::town::reviews::unfinished(draft, bead_id));
    assert_eq!(waiting.unwrap().unwrap().entry_id, entry_id);
}

#[test]
fn a_completed_run_ends_its_bead() {
    let cases = [
        (CompletedStatus::Completed, BeadStatus::Closed, None),
        (CompletedStatus::Failed, BeadStatus::Failed, Some("why")),
    ];
    for (status, expected, reason) in cases {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let (agent_id, bead_id) = town.hooked();
        let told = reason.map(str::to_owned);
        town.act(|draft| agents::completed(draft, rig_id, agent_id, status, told))
            .unwrap();
        let bead = town.bead(bead_id);
        assert_eq!((bead.status, bead.failure.as_deref()), (expected, reason));
        let agent = town.agent(agent_id);
        assert_eq!((agent.hook, agent.status), (None, AgentStatus::Idle));
    }
}

#[test]
fn mail_is_handed_over_once_and_in_order() {
    let mut town = Bench::new();
    let (rig_id, other) = (town.rig_id, town.other_rig_id);
    let (agent_id, neighbour) = (town.polecat(), town.polecat());
    let stranger = town.new_agent(other, AgentRole::Polecat).unwrap();
    for from in ["a", "b", "c"] {
        town.act(|draft| mails::send(draft, Some(rig_id), mail(agent_id, from)))
            .unwrap();
    }
    let refused = town.refused(|draft| mails::send(draft, Some(rig_id), mail(stranger, "a")));
    assert_eq!(refused, "AgentNotFound");
    let mut check = |agent_id| {
        let mails = town.act(|draft| mails::check(draft, rig_id, agent_id));
        mails.unwrap()
    };
    assert_eq!(check(neighbour).len(), 0);
    let handed = check(agent_id);
    let from: Vec<&str> = handed.iter().map(|mail| &*mail.from_agent_id).collect();
    assert_eq!(from, ["a", "b", "c"]);
    assert!(handed.iter().all(|mail| mail.delivered_at.is_some()));
    assert_eq!(check(agent_id).len(), 0, "once");
    town.act(|draft| mails::send(draft, Some(rig_id), mail(agent_id, "d")))
        .unwrap();
    let prime = town
        .act(|draft| agents::prime(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(prime.undelivered_mail.len(), 1);
    let prime = town
        .act(|draft| agents::prime(draft, rig_id, agent_id))
        .unwrap();
    assert_eq!(
        prime.undelivered_mail.len(),
        0,
        "priming hands over as well"
    );
}

#[test]
fn one_matter_is_one_escalation_until_it_is_closed() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let raise = |town: &mut Bench, matter| {
        let bead = town.act(|draft| escalations::raise(draft, Some(rig_id), escalation(matter)));
        bead.unwrap().bead_id
    };
    let first = raise(&mut town, Some("disk"));
    assert_eq!(raise(&mut town, Some("disk")), first, "folded");
    assert_ne!(raise(&mut town, Some("model")), first);
    assert_ne!(raise(&mut town, None), raise(&mut town, None));
    let seen = town
        .act(|draft| escalations::acknowledge(draft, first))
        .unwrap();
    assert_eq!(seen.status, BeadStatus::InProgress);
    town.act(|draft| escalations::acknowledge(draft, first))
        .unwrap();
    assert_eq!(raise(&mut town, Some("disk")), first, "still folded");
    town.set_status(first, BeadStatus::Closed, BeadActor::User(None))
        .unwrap();
    assert_ne!(raise(&mut town, Some("disk")), first, "a new occurrence");
    let count = |town: &Bench, kind: &str| town.facts.iter().filter(|fact| *fact == kind).count();
    assert_eq!(count(&town, "escalation.repeated"), 2);
    assert_eq!(count(&town, "escalation.acknowledged"), 1);
    assert_eq!(town.escalations().len(), 5);
    let issue = town.open_bead();
    assert_eq!(
        town.refused(|draft| escalations::acknowledge(draft, issue)),
        "EscalationNotFound"
    );
}
