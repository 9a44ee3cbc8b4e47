//! The mayor: the agent that people talk to.

use serde_json::json;

use crate::http::context::{Context, Reply, ok};
use crate::http::extract::TEXT;
use crate::http::wire::WireMayorSession;
use crate::town::{CompletedStatus, SessionStatus};

/// Makes the mayor if there is none. What older clients send to configure it is the town's config
/// here and is ignored.
pub(in crate::http) async fn configure(context: Context) -> Reply {
    context.fields()?.finish()?;
    context.town()?.configure_mayor().await?;
    ok(json!({"configured": true}))
}

pub(in crate::http) async fn message(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let message = fields.required_text("message", 1..=usize::MAX);
    fields.finish()?;
    ok(WireMayorSession::from(
        context.town()?.tell_mayor(message).await?,
    ))
}

pub(in crate::http) async fn status(context: Context) -> Reply {
    let town = context.town()?;
    let mayor = town.mayor().await?;
    let session = mayor.as_ref().map(|mayor| {
        let agent_id = mayor.agent_id.to_string();
        json!({
            "sessionId": mayor.dispatch.session_id.as_deref().unwrap_or(&agent_id),
            "agentId": agent_id,
            "status": SessionStatus::of(mayor).as_str(),
            "lastActivityAt": mayor.last_activity_at.unwrap_or(mayor.created_at).to_string(),
        })
    });
    ok(json!({
        "configured": mayor.is_some(),
        "townId": town.town_id().to_string(),
        "session": session,
    }))
}

pub(in crate::http) async fn completed(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let status = fields.required_choice("status");
    let reason = fields.text("reason", TEXT);
    fields.finish()?;
    let status = status.unwrap_or(CompletedStatus::Completed);
    context.town()?.mayor_completed(status, reason).await?;
    ok(json!({"acknowledged": true}))
}

pub(in crate::http) async fn destroy(context: Context) -> Reply {
    context.town()?.destroy_mayor().await?;
    ok(json!({"destroyed": true}))
}
