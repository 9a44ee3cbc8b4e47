//! The mayor's tools over HTTP; over MCP they are the same calls (see `http::tools`). What only reads
//! is a row of the route table that leads to the rig's own handlers.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{TEXT, TITLE};
use crate::http::wire::{WireRig, WireSlung};
use crate::model::{MailType, Priority};
use crate::town::{NewMail, SlingOrder};

pub(in crate::http) async fn sling(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let rig_id = fields.required_id("rig_id");
    let order = SlingOrder {
        title: fields.required_text("title", TITLE),
        body: fields.text("body", TEXT),
        priority: fields.choice("priority").unwrap_or(Priority::Medium),
        metadata: fields.object("metadata"),
        created_by: context.calling_agent().map(|agent_id| agent_id.to_string()),
    };
    fields.finish()?;
    let rig_id = rig_id.ok_or(ApiError::not_found("rig"))?;
    let slung = context.town()?.sling(rig_id, order).await?;
    created(WireSlung::from(slung))
}

pub(in crate::http) async fn rigs(context: Context) -> Reply {
    let rigs = context.town()?.rigs().await?;
    ok(rigs.into_iter().map(WireRig::from).collect::<Vec<_>>())
}

/// Mail from the mayor to an agent of the rig.
pub(in crate::http) async fn mail(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let rig_id = fields.required_id("rig_id");
    let from = fields.text("from_agent_id", 1..=128);
    let to = fields.required_id("to_agent_id");
    let subject = fields.required_text("subject", TITLE);
    let body = fields.required_text("body", TEXT);
    fields.finish()?;
    let own = context.calling_agent().map(|agent_id| agent_id.to_string());
    if own.is_some() && from.is_some() && own != from {
        return Err(ApiError::forbidden(
            "an agent can send mail only in its own name",
        ));
    }
    let new = NewMail {
        from_agent_id: own.or(from).unwrap_or_else(|| "mayor".to_owned()),
        to_agent_id: to.ok_or(ApiError::not_found("agent"))?,
        subject,
        body,
        mail_type: MailType::Message,
    };
    let rig_id = rig_id.ok_or(ApiError::not_found("rig"))?;
    context.town()?.send_mail(Some(rig_id), new).await?;
    ok(json!({"sent": true}))
}
