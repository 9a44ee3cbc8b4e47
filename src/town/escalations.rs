//! Transitions of escalations: matters that a person must look at.

use serde_json::json;

use crate::model::{Bead, BeadId, BeadStatus, BeadType, Priority, RigId};

use super::beads;
use super::command::{Escalation, NewBead};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};

/// Raises an escalation, or folds it into the open one about the same matter.
pub(super) fn raise(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    escalation: Escalation,
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
    let metadata = json!({"title": bead.title, "severity": bead.priority.as_str()});
    draft.fact(
        "escalation.created",
        Fact {
            metadata,
            actor: bead.created_by.clone(),
            ..beads::fact_of(&bead)
        },
    );
    if let Some(matter) = matter {
        draft.set_escalation_about(&matter, bead.bead_id);
    }
    Ok(bead)
}

/// A person has taken the matter up: it is in progress, and what repeats it still folds into it.
pub(super) fn acknowledge(draft: &mut Draft<'_>, escalation_id: BeadId) -> Result<Bead, Error> {
    let bead = draft
        .find_bead(escalation_id)?
        .filter(|bead| bead.bead_type == BeadType::Escalation)
        .ok_or(Refusal::EscalationNotFound(escalation_id))?;
    if bead.status != BeadStatus::Open {
        return Ok(bead);
    }
    draft.fact("escalation.acknowledged", beads::fact_of(&bead));
    beads::change_status(draft, bead, BeadStatus::InProgress, None)?;
    draft.bead(escalation_id)
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
    let metadata = crate::model::Json::from_valid(json!({"matter": matter}).to_string());
    let escalation = Escalation {
        title,
        body: Some(body),
        priority,
        metadata,
        created_by: Some("gastownd".to_owned()),
        matter: Some(matter),
    };
    raise(draft, rig_id, escalation).map(drop)
}
