//! Transitions of mail.

use serde_json::json;

use crate::model::{AgentId, Mail, MailId, RigId};

use super::agents;
use super::command::{MayorSession, NewMail, SessionStatus};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};

/// Who writes the messages that people send to the mayor.
pub(super) const USER: &str = "user";

/// Sends a mail. Within a rig both ends are checked; the town's own mail may go to any agent.
pub(super) fn send(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    new: NewMail,
) -> Result<Mail, Error> {
    let to = draft.agent(new.to_agent_id)?;
    let reachable = rig_id.is_none() || to.rig_id == rig_id || to.rig_id.is_none();
    if !reachable {
        return Err(Refusal::AgentNotFound(new.to_agent_id).into());
    }
    let mail = Mail {
        mail_id: MailId::random(),
        seq: draft.next_seq()?,
        from_agent_id: new.from_agent_id,
        to_agent_id: new.to_agent_id,
        subject: new.subject,
        body: new.body,
        created_at: draft.now,
        delivered_at: None,
    };
    draft.set_mail(&mail);
    let metadata = json!({"mail_id": mail.mail_id.to_string(), "from": mail.from_agent_id, "subject": mail.subject});
    draft.fact(
        "mail.sent",
        Fact {
            metadata,
            actor: Some(mail.from_agent_id.clone()),
            ..agents::fact_of(&to)
        },
    );
    Ok(mail)
}

/// Hands over what waits for an agent, oldest first. Mail is given once.
pub(super) fn deliver(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<Vec<Mail>, Error> {
    let mut mails = draft.undelivered(agent_id)?;
    for mail in &mut mails {
        mail.delivered_at = Some(draft.now);
        draft.set_mail(mail);
    }
    Ok(mails)
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

/// A person's word to the mayor. It is kept as mail until the mayor's session has it, so that it
/// survives whatever happens in between.
pub(super) fn tell_mayor(draft: &mut Draft<'_>, message: String) -> Result<MayorSession, Error> {
    let mayor = agents::mayor(draft)?;
    send(
        draft,
        None,
        NewMail {
            from_agent_id: USER.to_owned(),
            to_agent_id: mayor.agent_id,
            subject: "message".to_owned(),
            body: message,
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
    for mut mail in draft.undelivered(agent_id)? {
        if told.contains(&mail.mail_id) {
            mail.delivered_at = Some(draft.now);
            draft.set_mail(&mail);
        }
    }
    Ok(())
}
