//! What is said: mail, escalations, words to the mayor.

use std::time::Duration;

use crate::model::{AskId, Json, MailType};
use crate::town::asks::AskReply;
use crate::town::command::{Command, CompletedStatus, Escalation, NewMail, NewNudge};
use crate::town::tests::simulation::run::Simulation;

pub(super) fn send_mail(simulation: &mut Simulation<'_>) {
    let (rig_id, to_agent_id) = simulation.agent();
    let rig_id = Some(rig_id).filter(|_| simulation.random.chance(80));
    let new = NewMail {
        from_agent_id: "a client".to_owned(),
        to_agent_id,
        subject: "hello".to_owned(),
        body: "hello".to_owned(),
        mail_type: simulation.random.pick(TYPES).unwrap(),
    };
    simulation.request("send mail", move |reply| {
        Command::SendMail(rig_id, new.clone(), reply)
    });
}

/// What clients may send.
const TYPES: &[MailType] = &[MailType::Message, MailType::Help, MailType::Handoff];

pub(super) fn nudge(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    let new = NewNudge {
        from_agent_id: "a client".to_owned(),
        message: "hello".to_owned(),
        time_to_live: Duration::from_secs(simulation.random.between(1, 1200)),
    };
    simulation.request("nudge", move |reply| {
        Command::Nudge(Some(rig_id), agent_id, new.clone(), reply)
    });
}

pub(super) fn check_mail(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    simulation.request("check mail", move |reply| {
        Command::CheckMail(rig_id, agent_id, reply)
    });
}

pub(super) fn prime(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    simulation.request("prime", move |reply| {
        Command::Prime(rig_id, agent_id, reply)
    });
}

pub(super) fn escalate(simulation: &mut Simulation<'_>) {
    let rig_id = Some(simulation.rig()).filter(|_| simulation.random.chance(70));
    let escalation = Escalation {
        title: "help".to_owned(),
        body: None,
        priority: simulation.priority(),
        metadata: Json::empty_object(),
        created_by: None,
        matter: simulation
            .random
            .chance(60)
            .then(|| format!("matter-{}", simulation.random.below(4))),
    };
    simulation.request("escalate", move |reply| {
        Command::Escalate(rig_id, escalation.clone(), reply)
    });
}

pub(super) fn acknowledge(simulation: &mut Simulation<'_>) {
    let (_, bead_id) = simulation.bead_of_rig();
    simulation.request("acknowledge", move |reply| {
        Command::Acknowledge(bead_id, reply)
    });
}

pub(in crate::town::tests::simulation) fn tell_mayor(simulation: &mut Simulation<'_>) {
    let message = simulation.known.new_name("message");
    simulation.request("tell the mayor", move |reply| {
        Command::TellMayor(message.clone(), reply)
    });
}

pub(super) fn configure_mayor(simulation: &mut Simulation<'_>) {
    simulation.request("configure the mayor", Command::ConfigureMayor);
}

pub(super) fn mayor_completed(simulation: &mut Simulation<'_>) {
    simulation.request("mayor completed", |reply| {
        Command::MayorCompleted(CompletedStatus::Completed, None, reply)
    });
}

pub(super) fn destroy_mayor(simulation: &mut Simulation<'_>) {
    simulation.request("destroy the mayor", Command::DestroyMayor);
}

pub(super) fn message_agent(simulation: &mut Simulation<'_>) {
    let (_, agent_id) = simulation.agent();
    simulation.request("message agent", move |reply| {
        Command::MessageAgent(agent_id, "hello".to_owned(), reply)
    });
}

pub(super) fn answer_ask(simulation: &mut Simulation<'_>) {
    let ask = simulation.random.pick(&simulation.known.asks);
    let ask_id = ask.unwrap_or_else(AskId::random);
    let answers = if simulation.random.chance(50) {
        AskReply::NoAnswer
    } else {
        AskReply::Answers(vec![vec!["blue".to_owned()]])
    };
    simulation.request("answer ask", move |reply| {
        Command::AnswerAsk(ask_id, answers.clone(), reply)
    });
}
