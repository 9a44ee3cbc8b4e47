//! Transitions of mail: typed messages between agents, people and the town itself, and nudges.
//!
//! A mail waits until it is handed over: when its receiver primes, checks its mail, or has ended a
//! turn. It is never put into the middle of one. A nudge is a mail with a time to live, and is
//! looked at once more right before it is handed over.

use serde_json::json;

use crate::model::{Agent, AgentId, Mail, MailId, MailType, Priority, RigId, Timestamp};

use super::command::{Escalation, MayorSession, NewMail, NewNudge, SessionStatus};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};
use super::{agents, container, escalations, mayor, queries};

/// Who writes the messages that people send.
pub(super) const USER: &str = "user";

/// Who writes the town's own mail.
pub(super) const SYSTEM: &str = "gastownd";

/// Mail that only informs is not added where so much waits unread: nobody would read it.
const INFORMING_MAIL_MAX: usize = 100;

/// Sends a mail. Within a rig both ends are checked; the town's own mail may go to any agent.
pub(super) fn send(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    new: NewMail,
) -> Result<Mail, Error> {
    if let Some(rig_id) = rig_id {
        draft.rig(rig_id)?;
    }
    let to = reachable(draft, rig_id, new.to_agent_id)?;
    let calls_for_help = new.mail_type == MailType::Help;
    let mail = insert(draft, &to, new, None)?;
    if calls_for_help {
        call_for_help(draft, rig_id, &mail)?;
    }
    Ok(mail)
}

/// The town's own word to an agent. To one that is gone nothing is sent.
pub(super) fn send_system(
    draft: &mut Draft<'_>,
    to: AgentId,
    mail_type: MailType,
    subject: impl Into<String>,
    body: impl Into<String>,
) -> Result<(), Error> {
    let Some(to) = draft.find_agent(to)? else {
        return Ok(());
    };
    if !mail_type.wakes()
        && queries::undelivered_count(draft.tree, to.agent_id, INFORMING_MAIL_MAX)?
            >= INFORMING_MAIL_MAX
    {
        return Ok(());
    }
    let new = NewMail {
        from_agent_id: SYSTEM.to_owned(),
        to_agent_id: to.agent_id,
        subject: subject.into(),
        body: body.into(),
        mail_type,
    };
    insert(draft, &to, new, None).map(drop)
}

/// Sends a word that is worth something only for a while, and only as long as the receiver has on
/// its hook what it has now.
pub(super) fn nudge(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    agent_id: AgentId,
    new: NewNudge,
) -> Result<Mail, Error> {
    let to = match rig_id {
        Some(rig_id) => draft.agent_of(rig_id, agent_id)?,
        None => draft.agent(agent_id)?,
    };
    let expires_at = draft.now.after(new.time_to_live);
    let new = NewMail {
        from_agent_id: new.from_agent_id,
        to_agent_id: agent_id,
        subject: "nudge".to_owned(),
        body: new.message,
        mail_type: MailType::Nudge,
    };
    insert(draft, &to, new, Some(expires_at))
}

/// The receiver, if it can be written to from that rig.
fn reachable(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    agent_id: AgentId,
) -> Result<Agent, Error> {
    let to = draft.agent(agent_id)?;
    if rig_id.is_none() || to.rig_id == rig_id || to.rig_id.is_none() {
        Ok(to)
    } else {
        Err(Refusal::AgentNotFound(agent_id).into())
    }
}

fn insert(
    draft: &mut Draft<'_>,
    to: &Agent,
    new: NewMail,
    expires_at: Option<Timestamp>,
) -> Result<Mail, Error> {
    let mail = Mail {
        mail_id: MailId::random(),
        seq: draft.next_seq()?,
        from_agent_id: new.from_agent_id,
        to_agent_id: new.to_agent_id,
        subject: new.subject,
        body: new.body,
        created_at: draft.now,
        delivered_at: None,
        mail_type: new.mail_type,
        expires_at,
        about_bead_id: expires_at.and(to.hook),
        dropped: None,
    };
    draft.set_mail(&mail);
    record(draft, "mail.sent", to, &mail);
    Ok(mail)
}

fn record(draft: &mut Draft<'_>, event_type: &str, to: &Agent, mail: &Mail) {
    let metadata = json!({
        "mail_id": mail.mail_id.to_string(),
        "from": mail.from_agent_id,
        "subject": mail.subject,
        "mail_type": mail.mail_type.as_str(),
        "reason": mail.dropped,
    });
    draft.fact(
        event_type,
        Fact {
            metadata,
            actor: Some(mail.from_agent_id.clone()).filter(|_| event_type == "mail.sent"),
            ..agents::fact_of(to)
        },
    );
}

/// An agent that asks for help is heard by people, too.
fn call_for_help(draft: &mut Draft<'_>, rig_id: Option<RigId>, mail: &Mail) -> Result<(), Error> {
    let metadata = json!({"mail_id": mail.mail_id.to_string(), "from": mail.from_agent_id});
    let escalation = Escalation {
        title: mail.subject.clone(),
        body: Some(mail.body.clone()),
        priority: Priority::High,
        metadata: crate::model::Json::from_valid(metadata.to_string()),
        created_by: Some(mail.from_agent_id.clone()),
        matter: Some(format!("help:{}:{}", mail.from_agent_id, mail.subject)),
    };
    let told = Some(mail.to_agent_id);
    escalations::raise_beside(draft, rig_id, escalation, told).map(drop)
}

/// Why a nudge is worth nothing any more; always `None` for other mail.
pub(super) fn staleness(mail: &Mail, to: &Agent, now: Timestamp) -> Option<&'static str> {
    let expires_at = mail.expires_at?;
    if expires_at <= now {
        Some("it came too late")
    } else if to.hook != mail.about_bead_id {
        Some("the agent has something else to do by now")
    } else {
        None
    }
}

/// What waits for an agent and is still worth something, oldest first; the rest is dropped.
fn worthwhile(draft: &mut Draft<'_>, agent: &Agent) -> Result<Vec<Mail>, Error> {
    let mut worthwhile = Vec::new();
    for mut mail in draft.undelivered(agent.agent_id)? {
        match staleness(&mail, agent, draft.now) {
            None => worthwhile.push(mail),
            Some(reason) => {
                mail.dropped = Some(reason.to_owned());
                draft.set_mail(&mail);
                record(draft, "nudge.dropped", agent, &mail);
            }
        }
    }
    Ok(worthwhile)
}

/// Drops the nudges to an agent that are worth nothing any more.
pub(super) fn drop_stale(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    match draft.find_agent(agent_id)? {
        Some(agent) => worthwhile(draft, &agent).map(drop),
        None => Ok(()),
    }
}

/// Hands over what waits for an agent, oldest first. Mail is given once.
pub(super) fn deliver(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<Vec<Mail>, Error> {
    let agent = draft.agent(agent_id)?;
    let mut mails = worthwhile(draft, &agent)?;
    for mail in &mut mails {
        mark(draft, &agent, mail);
    }
    Ok(mails)
}

fn mark(draft: &mut Draft<'_>, to: &Agent, mail: &mut Mail) {
    mail.delivered_at = Some(draft.now);
    draft.set_mail(mail);
    record(draft, "mail.delivered", to, mail);
}

pub(super) fn check(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
) -> Result<Vec<Mail>, Error> {
    draft.agent_of(rig_id, agent_id)?;
    agents::touch(draft, agent_id)?;
    deliver(draft, agent_id)
}

/// Whether something is to be told to an agent between two turns of its session.
pub(super) fn is_to_be_told(draft: &mut Draft<'_>, agent: &Agent) -> Result<bool, Error> {
    let mails = worthwhile(draft, agent)?;
    Ok(mails.iter().any(tells_in_session))
}

/// A hand-over is for the next session; in the one that wrote it, it says nothing new.
pub(super) fn tells_in_session(mail: &Mail) -> bool {
    mail.mail_type != MailType::Handoff
}

/// A person's word to the mayor. It is kept as mail until the mayor's session has it, so that it
/// survives whatever happens in between.
pub(super) fn tell_mayor(draft: &mut Draft<'_>, message: String) -> Result<MayorSession, Error> {
    container::asked_for(draft)?;
    mayor::try_again(draft)?;
    let mayor = agents::mayor(draft)?;
    send(
        draft,
        None,
        NewMail {
            from_agent_id: USER.to_owned(),
            to_agent_id: mayor.agent_id,
            subject: "message".to_owned(),
            body: message,
            mail_type: MailType::Message,
        },
    )?;
    let status = if mayor.dispatch.requested_at.is_none() {
        SessionStatus::Starting
    } else {
        SessionStatus::of(&mayor)
    };
    Ok(MayorSession {
        agent_id: mayor.agent_id,
        status,
    })
}

/// The mails were put into a prompt that the agent's session took.
pub(super) fn mark_told(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    told: &[MailId],
) -> Result<(), Error> {
    let Some(agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    for mut mail in draft.undelivered(agent_id)? {
        if told.contains(&mail.mail_id) {
            mark(draft, &agent, &mut mail);
        }
    }
    Ok(())
}
