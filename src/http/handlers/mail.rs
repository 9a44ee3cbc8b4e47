//! Mail.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{TEXT, TITLE};
use crate::http::wire::WireMail;
use crate::town::NewMail;

pub(in crate::http) async fn check(context: Context) -> Reply {
    let mails = context
        .town()?
        .check_mail(context.rig_id()?, context.agent_id()?)
        .await?;
    ok(mails.into_iter().map(WireMail::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn send(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let from = fields.required_text("from_agent_id", 1..=128);
    let to = fields.required_id("to_agent_id");
    let subject = fields.required_text("subject", TITLE);
    let body = fields.required_text("body", TEXT);
    fields.finish()?;
    if context
        .calling_agent()
        .is_some_and(|own| own.to_string() != from)
    {
        return Err(ApiError::forbidden(
            "an agent can send mail only in its own name",
        ));
    }
    let to_agent_id = to.ok_or(ApiError::not_found("agent"))?;
    let new = NewMail {
        from_agent_id: from,
        to_agent_id,
        subject,
        body,
    };
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    town.rig(rig_id).await?;
    town.send_mail(Some(rig_id), new).await?;
    created(json!({"sent": true}))
}
