//! The mayor: the agent that people talk to.

use serde_json::json;

use crate::http::context::{Context, Reply, ok};
use crate::http::wire::WireMayorSession;
use crate::town::SessionStatus;

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
