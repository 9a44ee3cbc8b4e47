//! Transitions of escalations: matters that a person must look at.
//!
//! Severity says who hears of it: a low one is only recorded, from medium on the mayor gets a mail,
//! and high and critical ones also go to the notification hook. One that nobody takes up is raised
//! again a few times, each time one step more severe; one that was taken up or closed never is.

use std::time::Duration;

use serde_json::json;

use crate::model::{
    AgentId, Bead, BeadId, BeadStatus, BeadType, MailType, Priority, Raised, RigId, Timestamp,
};
use crate::storage::{self, RaisedKey, Tree};

use super::command::{Escalation, NewBead};
use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::{beads, mail};

/// How long an escalation may wait until it is raised again.
pub(super) const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);
/// How often it is raised again at most.
pub(super) const RAISED_AGAIN_MAX: u32 = 3;

/// Raises an escalation, or folds it into the open one about the same matter.
pub(super) fn raise(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    escalation: Escalation,
) -> Result<Bead, Error> {
    raise_beside(draft, rig_id, escalation, None)
}

/// As [`raise`], where somebody has heard of the matter by another mail.
pub(super) fn raise_beside(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    escalation: Escalation,
    told: Option<AgentId>,
) -> Result<Bead, Error> {
    if let Some(matter) = &escalation.matter
        && let Some(mut open) = draft.escalation_about(matter)?
    {
        let metadata = json!({"title": escalation.title, "body": escalation.body});
        draft.fact(
            "escalation.repeated",
            Fact {
                metadata,
                ..beads::fact_of(&open)
            },
        );
        open.updated_at = draft.now;
        draft.set_bead(open.clone())?;
        return Ok(open);
    }
    let matter = escalation.matter.clone();
    let bead = beads::create(
        draft,
        rig_id,
        NewBead {
            bead_type: BeadType::Escalation,
            title: escalation.title,
            body: escalation.body,
            priority: escalation.priority,
            labels: Vec::new(),
            metadata: escalation.metadata,
            assignee_agent_id: None,
            parent_bead_id: None,
            created_by: escalation.created_by,
            convoy_id: None,
            depends_on: Vec::new(),
        },
    )?;
    record(draft, "escalation.created", &bead, bead.created_by.clone());
    if let Some(matter) = matter {
        draft.set_escalation_about(&matter, bead.bead_id);
    }
    tell(draft, &bead, 0, told)?;
    Ok(bead)
}

/// What people were called for has passed: the escalation about it is closed, if one is open.
pub(super) fn settle(draft: &mut Draft<'_>, matter: &str) -> Result<(), Error> {
    match draft.escalation_about(matter)? {
        Some(open) => beads::finish(draft, open.bead_id, BeadStatus::Closed, None, None),
        None => Ok(()),
    }
}

/// Tells whom the severity names, and remembers when.
fn tell(
    draft: &mut Draft<'_>,
    bead: &Bead,
    again: u32,
    told: Option<AgentId>,
) -> Result<(), Error> {
    let notify = draft.settings.notifies && bead.priority >= Priority::High;
    let raised = Raised {
        bead_id: bead.bead_id,
        raised_at: draft.now,
        again,
        notify,
    };
    set_raised(draft, &raised);
    if bead.priority >= Priority::Medium {
        tell_mayor(draft, bead, told)?;
    }
    Ok(())
}

/// The mayor hears of what others raised; what it raised itself is for people.
fn tell_mayor(draft: &mut Draft<'_>, bead: &Bead, told: Option<AgentId>) -> Result<(), Error> {
    let Some(mayor) = draft.mayor()? else {
        return Ok(());
    };
    if told == Some(mayor.agent_id) {
        return Ok(());
    }
    if bead.created_by.as_deref() == Some(&*mayor.agent_id.to_string()) {
        return Ok(());
    }
    let body = format!(
        "Escalation ({}): {}\n\n{}\n\nEscalation id: {}",
        bead.priority,
        bead.title,
        bead.body.as_deref().unwrap_or("No more was said."),
        bead.bead_id,
    );
    let subject = format!("Escalation: {}", bead.title);
    mail::send_system(draft, mayor.agent_id, MailType::Message, subject, body)
}

/// Nobody took it up: it is raised again, one step more severe.
pub(super) fn raise_again(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<(), Error> {
    let Some(raised) = draft.tree.get(&RaisedKey { bead_id })? else {
        return Ok(());
    };
    let open = draft
        .find_bead(bead_id)?
        .filter(|bead| bead.status == BeadStatus::Open);
    let Some(mut bead) = open else {
        draft.remove(&RaisedKey { bead_id });
        return Ok(());
    };
    if raised.again >= RAISED_AGAIN_MAX {
        return Ok(());
    }
    bead.priority = more_severe(bead.priority);
    bead.updated_at = draft.now;
    draft.set_bead(bead.clone())?;
    record(
        draft,
        "escalation.raised_again",
        &bead,
        Some(mail::SYSTEM.to_owned()),
    );
    tell(draft, &bead, raised.again + 1, None)
}

const fn more_severe(priority: Priority) -> Priority {
    match priority {
        Priority::Low => Priority::Medium,
        Priority::Medium => Priority::High,
        Priority::High | Priority::Critical => Priority::Critical,
    }
}

/// When it is to be raised again; `None` if never.
pub(super) fn raised_again_at(raised: &Raised) -> Option<Timestamp> {
    (raised.again < RAISED_AGAIN_MAX).then(|| raised.raised_at.after(PATIENCE))
}

/// The notification hook is to be run.
pub(super) fn notify(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<(), Error> {
    match draft.find_bead(bead_id)? {
        Some(_) => draft.effect(Effect::Notify(bead_id)),
        None => draft.remove(&RaisedKey { bead_id }),
    }
    Ok(())
}

/// The notification hook has been run, well or not. It is not run again for that, but when the
/// escalation is raised again.
pub(super) fn notified(
    draft: &mut Draft<'_>,
    bead_id: BeadId,
    outcome: Result<(), String>,
) -> Result<(), Error> {
    if let Some(mut raised) = draft.tree.get(&RaisedKey { bead_id })? {
        raised.notify = false;
        set_raised(draft, &raised);
    }
    let Some(bead) = draft.find_bead(bead_id)? else {
        return Ok(());
    };
    let (event_type, metadata) = match outcome {
        Ok(()) => ("escalation.notified", json!({})),
        Err(error) => ("escalation.notify_failed", json!({"error": error})),
    };
    let fact = Fact {
        metadata,
        ..beads::fact_of(&bead)
    };
    draft.fact(event_type, fact);
    Ok(())
}

/// A person has taken the matter up: it is in progress, and what repeats it still folds into it.
pub(super) fn acknowledge(draft: &mut Draft<'_>, escalation_id: BeadId) -> Result<Bead, Error> {
    let bead = find(draft, escalation_id)?;
    if bead.status != BeadStatus::Open {
        return Ok(bead);
    }
    draft.fact("escalation.acknowledged", beads::fact_of(&bead));
    beads::change_status(draft, bead, BeadStatus::InProgress, None)?;
    draft.bead(escalation_id)
}

/// A person has seen to the matter.
pub(super) fn close(draft: &mut Draft<'_>, escalation_id: BeadId) -> Result<Bead, Error> {
    let bead = find(draft, escalation_id)?;
    if !bead.status.is_terminal() {
        let by = Some(mail::USER.to_owned());
        beads::finish(draft, escalation_id, BeadStatus::Closed, None, by)?;
    }
    draft.bead(escalation_id)
}

fn find(draft: &mut Draft<'_>, escalation_id: BeadId) -> Result<Bead, Error> {
    let bead = draft.find_bead(escalation_id)?;
    let bead = bead.filter(|bead| bead.bead_type == BeadType::Escalation);
    Ok(bead.ok_or(Refusal::EscalationNotFound(escalation_id))?)
}

/// An escalation's status changes, or it is deleted: whatever comes, it is not raised again.
pub(super) fn settled(draft: &mut Draft<'_>, bead: &Bead) {
    if bead.bead_type == BeadType::Escalation {
        draft.remove(&RaisedKey {
            bead_id: bead.bead_id,
        });
    }
}

/// One of the town's own.
pub(super) fn raise_own(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    priority: Priority,
    matter: String,
    title: String,
    body: String,
) -> Result<(), Error> {
    raise_about(draft, rig_id, priority, matter, title, body).map(drop)
}

/// One of the town's own, and its bead.
pub(super) fn raise_about(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    priority: Priority,
    matter: String,
    title: String,
    body: String,
) -> Result<Bead, Error> {
    let metadata = crate::model::Json::from_valid(json!({"matter": matter}).to_string());
    let escalation = Escalation {
        title,
        body: Some(body),
        priority,
        metadata,
        created_by: Some(mail::SYSTEM.to_owned()),
        matter: Some(matter),
    };
    raise(draft, rig_id, escalation)
}

fn record(draft: &mut Draft<'_>, event_type: &str, bead: &Bead, actor: Option<String>) {
    let metadata = json!({"title": bead.title, "severity": bead.priority.as_str()});
    let fact = Fact {
        metadata,
        actor,
        ..beads::fact_of(bead)
    };
    draft.fact(event_type, fact);
}

fn set_raised(draft: &mut Draft<'_>, raised: &Raised) {
    let bead_id = raised.bead_id;
    draft.put(&RaisedKey { bead_id }, raised);
}

/// Escalations that nobody has taken up.
pub(super) fn unattended(tree: &Tree) -> Result<Vec<Raised>, storage::Error> {
    tree.scan(&RaisedKey::all())
        .map(|row| row.map(|(_, raised)| raised))
        .collect()
}
