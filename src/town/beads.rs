//! Transitions of beads: the only place where a bead's status changes.

use serde_json::json;

use crate::model::{
    AgentId, Bead, BeadId, BeadStatus, BeadType, Dependency, DependencyKind, RigId,
};
use crate::storage::BeadByParent;

use super::command::{BeadActor, NewBead, StatusChange};
use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::{agents, convoys, dependencies, escalations, molecules, reviews};

/// The fact about a bead, with its rig filled in.
pub(super) fn fact_of(bead: &Bead) -> Fact {
    Fact {
        bead_id: Some(bead.bead_id),
        rig_id: bead.rig_id,
        ..Fact::default()
    }
}

pub(super) fn create(
    draft: &mut Draft<'_>,
    rig_id: Option<RigId>,
    new: NewBead,
) -> Result<Bead, Error> {
    if let Some(rig_id) = rig_id {
        draft.rig(rig_id)?;
    }
    if let Some(parent) = new.parent_bead_id
        && !draft.has_bead(parent)?
    {
        return Err(Refusal::BeadNotFound(parent).into());
    }
    let bead = Bead {
        bead_id: BeadId::random(),
        seq: draft.next_seq()?,
        bead_type: new.bead_type,
        status: BeadStatus::Open,
        title: new.title,
        body: new.body,
        rig_id,
        parent_bead_id: new.parent_bead_id,
        assignee_agent_id: None,
        priority: new.priority,
        labels: new.labels,
        metadata: new.metadata,
        created_by: new.created_by,
        failure: None,
        created_at: draft.now,
        updated_at: draft.now,
        closed_at: None,
        slung: false,
        convoy_id: None,
        molecule_id: None,
        dependencies: Vec::new(),
        blockers_open: 0,
    };
    draft.fact(
        "bead.created",
        Fact {
            new_value: Some(BeadStatus::Open.to_string()),
            metadata: json!({"type": bead.bead_type.as_str(), "title": bead.title}),
            actor: bead.created_by.clone(),
            ..fact_of(&bead)
        },
    );
    draft.set_bead(bead.clone())?;
    if let Some(convoy_id) = new.convoy_id {
        convoys::join(draft, bead.clone(), convoy_id)?;
    }
    let Some(rig_id) = rig_id else {
        return draft.bead(bead.bead_id);
    };
    for on_bead_id in new.depends_on {
        let kind = DependencyKind::Blocks;
        let dependency = Dependency { on_bead_id, kind };
        let by = bead.created_by.clone();
        dependencies::add(draft, rig_id, bead.bead_id, dependency, by)?;
    }
    if let Some(agent_id) = new.assignee_agent_id {
        agents::hook(draft, rig_id, agent_id, bead.bead_id)?;
    }
    draft.bead(bead.bead_id)
}

/// What hangs on a bead is told that its status has changed, or (`new` is `None`) that it is gone.
fn moved(
    draft: &mut Draft<'_>,
    bead: &Bead,
    old: BeadStatus,
    new: Option<BeadStatus>,
) -> Result<(), Error> {
    molecules::moved(draft, bead, new)?;
    dependencies::moved(draft, bead, old, new)?;
    convoys::moved(draft, bead, Some(old), new)
}

pub(super) fn set_status(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    bead_id: BeadId,
    change: StatusChange,
) -> Result<Bead, Error> {
    let bead = draft.bead_of(rig_id, bead_id)?;
    let StatusChange { status, actor } = change;
    if bead.status == status {
        return Ok(bead);
    }
    let reopens = status == BeadStatus::Open && matches!(actor, BeadActor::User(_));
    if bead.status.is_terminal() && !reopens {
        return Err(Refusal::BeadTerminal(bead_id, bead.status.as_str()).into());
    }
    let holder = holder(draft, &bead)?;
    if let (BeadStatus::Open, Some(holder)) = (status, holder) {
        return Err(Refusal::BeadHooked(bead_id, holder).into());
    }
    if status == BeadStatus::Closed && matches!(actor, BeadActor::Agent(_)) {
        molecules::refuse_unfinished(draft, bead_id)?;
    }
    let by = match &actor {
        BeadActor::Agent(agent_id) => Some(agent_id.to_string()),
        BeadActor::User(name) => name.clone(),
    };
    match status {
        BeadStatus::Closed => finish(draft, bead_id, BeadStatus::Closed, None, by)?,
        BeadStatus::Failed => {
            let reason = format!("set to failed by {}", by.as_deref().unwrap_or("a user"));
            finish(draft, bead_id, BeadStatus::Failed, Some(reason), by)?;
        }
        BeadStatus::Open | BeadStatus::InProgress => change_status(draft, bead, status, by)?,
    }
    draft.bead(bead_id)
}

/// Changes a status that ends nothing.
pub(super) fn change_status(
    draft: &mut Draft<'_>,
    mut bead: Bead,
    status: BeadStatus,
    by: Option<String>,
) -> Result<(), Error> {
    escalations::settled(draft, &bead);
    let old = std::mem::replace(&mut bead.status, status);
    bead.updated_at = draft.now;
    // Whoever puts a bead back takes it out of the scheduler's hands.
    if status == BeadStatus::Open {
        bead.slung = false;
    }
    if old.is_terminal() {
        bead.closed_at = None;
        bead.failure = None;
        bead.assignee_agent_id = None;
    }
    draft.fact(
        "bead.status_changed",
        Fact {
            agent_id: by.as_deref().and_then(|by| by.parse().ok()),
            actor: by.clone(),
            old_value: Some(old.to_string()),
            new_value: Some(status.to_string()),
            metadata: json!({"by": by}),
            ..fact_of(&bead)
        },
    );
    draft.set_bead(bead.clone())?;
    moved(draft, &bead, old, Some(status))?;
    if old.is_terminal() {
        convoys::leave_if_landed(draft, bead.bead_id)?;
    }
    Ok(())
}

/// Closes or fails a bead, takes it off its hook and stops the agent that had it. A bead that is
/// terminal already stays as it is.
pub(super) fn finish(
    draft: &mut Draft<'_>,
    bead_id: BeadId,
    status: BeadStatus,
    failure: Option<String>,
    by: Option<String>,
) -> Result<(), Error> {
    let bead = draft.bead(bead_id)?;
    if bead.status.is_terminal() {
        return Ok(());
    }
    if let Some(agent_id) = holder(draft, &bead)? {
        agents::release(draft, agent_id)?;
        draft.effect(Effect::StopAgent(agent_id));
    }
    // However a merge request ends, by its review or in any other way, the review does not outlast it.
    reviews::withdraw(draft, bead_id)?;
    reviews::abandon_rework(draft, bead_id)?;
    let mut bead = draft.bead(bead_id)?;
    escalations::settled(draft, &bead);
    let old = std::mem::replace(&mut bead.status, status);
    bead.updated_at = draft.now;
    bead.failure.clone_from(&failure);
    if status == BeadStatus::Closed {
        bead.closed_at = Some(draft.now);
    }
    draft.fact(
        "bead.status_changed",
        Fact {
            agent_id: by.as_deref().and_then(|by| by.parse().ok()),
            actor: by.clone(),
            old_value: Some(old.to_string()),
            new_value: Some(status.to_string()),
            metadata: json!({"by": by, "reason": failure}),
            ..fact_of(&bead)
        },
    );
    if status == BeadStatus::Closed {
        draft.fact(
            "bead.closed",
            Fact {
                agent_id: by.as_deref().and_then(|by| by.parse().ok()),
                actor: by,
                ..fact_of(&bead)
            },
        );
    }
    draft.set_bead(bead.clone())?;
    moved(draft, &bead, old, Some(status))
}

/// Deletes a bead. Its facts stay in the town's sequence and in the ledger; its parts stand alone.
pub(super) fn delete(draft: &mut Draft<'_>, rig_id: RigId, bead_id: BeadId) -> Result<(), Error> {
    let bead = draft.bead_of(rig_id, bead_id)?;
    if let Some(agent_id) = holder(draft, &bead)? {
        agents::release(draft, agent_id)?;
        draft.effect(Effect::StopAgent(agent_id));
    }
    if bead.bead_type == BeadType::MergeRequest {
        reviews::withdraw(draft, bead_id)?;
        draft.remove_review(bead_id)?;
        draft.set_review_output(bead_id, None);
    }
    reviews::abandon_rework(draft, bead_id)?;
    escalations::settled(draft, &bead);
    for row in draft.tree.scan(&BeadByParent::of_parent(bead_id)) {
        if let Some(mut part) = draft.find_bead(row?.1.id)? {
            part.parent_bead_id = None;
            draft.set_bead(part)?;
        }
    }
    // What the release of its hook left.
    let bead = draft.bead(bead_id)?;
    draft.remove_bead(bead_id)?;
    moved(draft, &bead, bead.status, None)?;
    draft.fact(
        "bead.deleted",
        Fact {
            metadata: json!({"title": bead.title}),
            ..fact_of(&bead)
        },
    );
    Ok(())
}

/// The agent on whose hook the bead is.
pub(super) fn holder(draft: &mut Draft<'_>, bead: &Bead) -> Result<Option<AgentId>, Error> {
    let Some(agent_id) = bead.assignee_agent_id else {
        return Ok(None);
    };
    let agent = draft.find_agent(agent_id)?;
    Ok(agent
        .filter(|agent| agent.hook == Some(bead.bead_id))
        .map(|agent| agent.agent_id))
}
