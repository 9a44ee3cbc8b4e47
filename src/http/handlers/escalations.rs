//! Escalations.

use crate::http::context::{Context, Reply, created, ok};
use crate::http::extract::{TEXT, TITLE};
use crate::http::wire::{WireBead, WireEscalation};
use crate::model::{BeadId, Priority};
use crate::town::Escalation;

pub(in crate::http) async fn raise(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let mut escalation = Escalation {
        title: fields.required_text("title", TITLE),
        body: fields.text("body", TEXT),
        priority: fields.choice("priority").unwrap_or(Priority::Medium),
        metadata: fields.object("metadata"),
        created_by: None,
        matter: None,
    };
    fields.finish()?;
    escalation.created_by = context.calling_agent().map(|agent_id| agent_id.to_string());
    let rig_id = context.rig_id()?;
    created(WireBead::from(
        context.town()?.escalate(Some(rig_id), escalation).await?,
    ))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let acknowledged = context.query.flag("acknowledged")?;
    let page = context.query.page()?;
    let beads = context.town()?.escalations(acknowledged, page).await?;
    ok(beads
        .into_iter()
        .map(WireEscalation::from)
        .collect::<Vec<_>>())
}

pub(in crate::http) async fn acknowledge(context: Context) -> Reply {
    let escalation_id: BeadId = context.id("escalation", "escalation")?;
    let bead = context.town()?.acknowledge(escalation_id).await?;
    ok(WireEscalation::from(bead))
}

/// A person has seen to it; the town's own are in no rig and are closed here, too.
pub(in crate::http) async fn close(context: Context) -> Reply {
    let escalation_id: BeadId = context.id("escalation", "escalation")?;
    let bead = context.town()?.close_escalation(escalation_id).await?;
    ok(WireEscalation::from(bead))
}
