//! What beads wait for.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::wire::{WireBead, WireDependencies};
use crate::model::{BeadId, Dependency, DependencyKind};

pub(in crate::http) async fn add(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let on_bead_id: Option<BeadId> = fields.required_id("depends_on_bead_id");
    let kind = fields.choice("type").unwrap_or(DependencyKind::Blocks);
    let by = fields.text("created_by", crate::http::extract::NAME);
    fields.finish()?;
    let on_bead_id = on_bead_id.ok_or(ApiError::not_found("bead"))?;
    let (rig_id, bead_id) = (context.rig_id()?, context.bead_id()?);
    let dependency = Dependency { on_bead_id, kind };
    let bead = context
        .town()?
        .add_dependency(rig_id, bead_id, dependency, by)
        .await?;
    created(WireBead::from(bead))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let (rig_id, bead_id) = (context.rig_id()?, context.bead_id()?);
    ok(WireDependencies::from(
        context.town()?.dependencies(rig_id, bead_id).await?,
    ))
}

pub(in crate::http) async fn remove(context: Context) -> Reply {
    let on_bead_id: BeadId = context.id("dependency", "dependency")?;
    let (rig_id, bead_id) = (context.rig_id()?, context.bead_id()?);
    context
        .town()?
        .remove_dependency(rig_id, bead_id, on_bead_id, None)
        .await?;
    ok(json!({"deleted": true}))
}
