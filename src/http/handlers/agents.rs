//! Agents.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{NAME, REFERENCE, TEXT};
use crate::http::wire::{WireAgent, WirePrime};
use crate::model::AgentRole;
use crate::town::{AgentDone, AgentFilter, CompletedStatus, NewAgent};

pub(in crate::http) async fn create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let new = NewAgent {
        role: fields.required_choice("role").unwrap_or(AgentRole::Polecat),
        name: fields.required_text("name", NAME),
        identity: fields.required_text("identity", 1..=256),
    };
    fields.finish()?;
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    created(WireAgent::from(town.create_agent(rig_id, new).await?))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let filter = AgentFilter {
        role: context.query.choice("role")?,
        status: context.query.choice("status")?,
    };
    let agents = context.town()?.agents(context.rig_id()?, filter).await?;
    ok(agents.into_iter().map(WireAgent::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn get_or_create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let role = fields.required_choice("role");
    fields.finish()?;
    let role = role.unwrap_or(AgentRole::Polecat);
    ok(WireAgent::from(
        context
            .town()?
            .get_or_create_agent(context.rig_id()?, role)
            .await?,
    ))
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    ok(WireAgent::from(
        context
            .town()?
            .agent(context.rig_id()?, context.agent_id()?)
            .await?,
    ))
}

pub(in crate::http) async fn delete(context: Context) -> Reply {
    context
        .town()?
        .delete_agent(context.rig_id()?, context.agent_id()?)
        .await?;
    ok(json!({"deleted": true}))
}

pub(in crate::http) async fn hook(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let bead_id = fields.required_id("bead_id");
    fields.finish()?;
    let bead_id = bead_id.ok_or(ApiError::not_found("bead"))?;
    context
        .town()?
        .hook(context.rig_id()?, context.agent_id()?, bead_id)
        .await?;
    ok(json!({"hooked": true}))
}

pub(in crate::http) async fn unhook(context: Context) -> Reply {
    context
        .town()?
        .unhook(context.rig_id()?, context.agent_id()?)
        .await?;
    ok(json!({"unhooked": true}))
}

pub(in crate::http) async fn prime(context: Context) -> Reply {
    ok(WirePrime::from(
        context
            .town()?
            .prime(context.rig_id()?, context.agent_id()?)
            .await?,
    ))
}

pub(in crate::http) async fn done(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let done = AgentDone {
        branch: fields.required_text("branch", REFERENCE),
        pr_url: fields.text("pr_url", REFERENCE),
        summary: fields.text("summary", TEXT),
    };
    fields.finish()?;
    context
        .town()?
        .done(context.rig_id()?, context.agent_id()?, done)
        .await?;
    ok(json!({"done": true}))
}

pub(in crate::http) async fn completed(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let status = fields.required_choice("status");
    let reason = fields.text("reason", TEXT);
    fields.finish()?;
    let status = status.unwrap_or(CompletedStatus::Completed);
    let (rig_id, agent_id) = (context.rig_id()?, context.agent_id()?);
    context
        .town()?
        .completed(rig_id, agent_id, status, reason)
        .await?;
    ok(json!({"completed": true}))
}

pub(in crate::http) async fn checkpoint(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let data = fields.required_json("data");
    fields.finish()?;
    context
        .town()?
        .checkpoint(context.rig_id()?, context.agent_id()?, data)
        .await?;
    ok(json!({"written": true}))
}

pub(in crate::http) async fn heartbeat(context: Context) -> Reply {
    context
        .town()?
        .heartbeat(context.rig_id()?, context.agent_id()?)
        .await?;
    ok(json!({"heartbeat": true}))
}

/// The agent that a body names must be the one whose token was sent.
pub(super) fn acting_as(
    context: &Context,
    agent_id: Option<crate::model::AgentId>,
) -> Result<crate::model::AgentId, ApiError> {
    let agent_id = agent_id.ok_or(ApiError::not_found("agent"))?;
    match context.calling_agent() {
        Some(own) if own != agent_id => {
            Err(ApiError::forbidden("an agent can act only for itself"))
        }
        _ => Ok(agent_id),
    }
}
