//! Beads.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::extract::{NAME, TEXT, TITLE};
use crate::http::wire::{WireBead, WireSlung};
use crate::model::{BeadStatus, BeadType, Priority};
use crate::town::{BeadActor, BeadFilter, NewBead, SlingOrder, StatusChange};

/// Beads that a new one may wait for.
const DEPENDS_ON_MAX: usize = 100;

pub(in crate::http) async fn create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let new = NewBead {
        bead_type: fields.required_choice("type").unwrap_or(BeadType::Issue),
        title: fields.required_text("title", TITLE),
        body: fields.text("body", TEXT),
        priority: fields.choice("priority").unwrap_or(Priority::Medium),
        labels: fields.labels("labels"),
        metadata: fields.object("metadata"),
        assignee_agent_id: fields.id("assignee_agent_id"),
        parent_bead_id: fields.id("parent_bead_id"),
        created_by: fields.text("created_by", NAME),
        convoy_id: fields.id("convoy_id"),
        depends_on: fields.ids("depends_on", DEPENDS_ON_MAX),
    };
    fields.finish()?;
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    created(WireBead::from(town.create_bead(rig_id, new).await?))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let filter = BeadFilter {
        status: context.query.choice("status")?,
        bead_type: context.query.choice("type")?,
        assignee: context.query.id("assignee_agent_bead_id")?,
        parent: context.query.id("parent_bead_id")?,
        convoy: context.query.id("convoy_id")?,
        ready: context.query.flag("ready")?,
    };
    let page = context.query.page()?;
    let beads = context
        .town()?
        .beads(context.rig_id()?, filter, page)
        .await?;
    ok(beads.into_iter().map(WireBead::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    ok(WireBead::from(
        context
            .town()?
            .bead(context.rig_id()?, context.bead_id()?)
            .await?,
    ))
}

pub(in crate::http) async fn delete(context: Context) -> Reply {
    context
        .town()?
        .delete_bead(context.rig_id()?, context.bead_id()?)
        .await?;
    ok(json!({"deleted": true}))
}

pub(in crate::http) async fn set_status(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let status = fields.required_choice("status");
    let by = fields.text("agent_id", 1..=128);
    fields.finish()?;
    change_status(&context, status.unwrap_or(BeadStatus::Open), by).await
}

pub(in crate::http) async fn close(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let by = fields.text("agent_id", 1..=128);
    fields.finish()?;
    change_status(&context, BeadStatus::Closed, by).await
}

async fn change_status(context: &Context, status: BeadStatus, by: Option<String>) -> Reply {
    // An agent's token says who it is; a user may name anybody.
    let actor = context
        .calling_agent()
        .map_or(BeadActor::User(by), BeadActor::Agent);
    let change = StatusChange { status, actor };
    let (rig_id, bead_id) = (context.rig_id()?, context.bead_id()?);
    ok(WireBead::from(
        context
            .town()?
            .set_bead_status(rig_id, bead_id, change)
            .await?,
    ))
}

pub(in crate::http) async fn sling(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let order = SlingOrder {
        title: fields.required_text("title", TITLE),
        body: fields.text("body", TEXT),
        priority: fields.choice("priority").unwrap_or(Priority::Medium),
        metadata: fields.object("metadata"),
        created_by: fields.text("created_by", NAME),
    };
    fields.finish()?;
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    created(WireSlung::from(town.sling(rig_id, order).await?))
}
