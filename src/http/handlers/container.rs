//! An agent's run in the town's container, as older clients see it.

use hyper::StatusCode;
use serde_json::json;

use crate::container::CallError;
use crate::http::context::{Context, Reply, ok};
use crate::http::error::ApiError;
use crate::http::wire;
use crate::model::ContainerState;
use crate::town::Error as TownError;

/// How the container is, and what the town knows of its life. It wakes nobody.
pub(in crate::http) async fn health(context: Context) -> Reply {
    let town = context.town()?;
    let life = town.container_life().await?;
    let health = match town.container().health().await {
        Ok(health) => Some(health),
        Err(CallError::Asleep) => None,
        // Where none was ever started even the way to its socket may be missing.
        Err(_) if life.state != ContainerState::Ready => None,
        Err(error) => return Err(TownError::Container(error).into()),
    };
    ok(wire::WireContainer::of(life, health))
}

/// Starts what is on an agent's hook. Everything else that an older client sends was settled when
/// the agent was made, or is the town's config.
pub(in crate::http) async fn start(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let agent_id = fields.required_id("agentId");
    fields.finish()?;
    let agent_id = agent_id.ok_or(ApiError::not_found("agent"))?;
    let agent = context.town()?.start_run(agent_id).await?;
    // The outcome comes as an event.
    let started = json!({"agentId": agent.agent_id.to_string(), "status": "starting"});
    Ok(wire::json_response(
        StatusCode::ACCEPTED,
        wire::envelope(&started),
    ))
}

pub(in crate::http) async fn stop(context: Context) -> Reply {
    let agent = context.town()?.stop_run(context.agent_id()?).await?;
    ok(json!({"agentId": agent.agent_id.to_string(), "stopped": true}))
}

pub(in crate::http) async fn message(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let prompt = fields.required_text("prompt", 1..=usize::MAX);
    fields.finish()?;
    let agent_id = context.agent_id()?;
    let agent = context.town()?.message_agent(agent_id, prompt).await?;
    ok(json!({"agentId": agent.agent_id.to_string(), "sent": true}))
}

pub(in crate::http) async fn status(context: Context) -> Reply {
    let agent_id = context.agent_id()?;
    ok(context.town()?.agent_run(agent_id).await?)
}
