//! Holding work back, letting it go on, and what it costs.

use serde_json::json;

use crate::http::context::{Context, Reply, ok};
use crate::http::error::ApiError;
use crate::http::wire::{WireBead, WireUsageReport};

/// Days that a report of usage covers if nobody says otherwise, and at most.
const USAGE_DAYS: u64 = 30;
const USAGE_DAYS_MAX: u64 = 366;

pub(in crate::http) async fn pause_town(context: Context) -> Reply {
    context.town()?.pause(true).await?;
    ok(json!({"paused": true}))
}

pub(in crate::http) async fn resume_town(context: Context) -> Reply {
    context.town()?.pause(false).await?;
    ok(json!({"paused": false}))
}

pub(in crate::http) async fn pause_rig(context: Context) -> Reply {
    context.town()?.pause_rig(context.rig_id()?, true).await?;
    ok(json!({"paused": true}))
}

pub(in crate::http) async fn resume_rig(context: Context) -> Reply {
    context.town()?.pause_rig(context.rig_id()?, false).await?;
    ok(json!({"paused": false}))
}

pub(in crate::http) async fn stop_all(context: Context) -> Reply {
    let stopped = context.town()?.stop_all().await?;
    ok(json!({"paused": true, "stopped": stopped.len()}))
}

pub(in crate::http) async fn stop_agent(context: Context) -> Reply {
    let (rig_id, agent_id) = (context.rig_id()?, context.agent_id()?);
    let stopped = context.town()?.stop_agent(rig_id, agent_id).await?;
    let bead_id = stopped.bead_id.map(|id| id.to_string());
    ok(json!({"stopped": true, "bead_id": bead_id}))
}

pub(in crate::http) async fn retry(context: Context) -> Reply {
    let (rig_id, bead_id) = (context.rig_id()?, context.bead_id()?);
    ok(WireBead::from(
        context.town()?.retry(rig_id, bead_id, None).await?,
    ))
}

pub(in crate::http) async fn usage(context: Context) -> Reply {
    let days = context
        .query
        .number("days", USAGE_DAYS, 1..=USAGE_DAYS_MAX)?;
    let report = context.town()?.usage(days).await?;
    ok(WireUsageReport::new(days, report))
}

/// What the alarm would do now. It looks by itself when there is reason to, so nobody else makes
/// it act.
pub(in crate::http) async fn reconcile(context: Context) -> Reply {
    let is_dry = matches!(context.query.get("dry_run"), Some("1" | "true"));
    let town = context.town()?;
    if !is_dry {
        return Err(ApiError::invalid_field("dry_run", "must be 1"));
    }
    ok(town.dry_run().await?)
}
