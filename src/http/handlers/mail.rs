//! Mail and nudges.

use std::time::Duration;

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{MESSAGE, TEXT, TITLE};
use crate::http::tools::NUDGE_TTL_DEFAULT;
use crate::http::wire::WireMail;
use crate::model::MailType;
use crate::town::{NewMail, NewNudge};

/// A nudge that may wait for longer than a day is a mail.
const NUDGE_TTL: std::ops::RangeInclusive<u64> = 1..=86_400;

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
    let mail_type = fields.choice::<MailType>("mail_type").unwrap_or_default();
    fields.finish()?;
    if !MailType::FREE.contains(&mail_type) {
        return Err(ApiError::invalid_field(
            "mail_type",
            "must be message, HELP or HANDOFF; the others are the town's own",
        ));
    }
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
        mail_type,
    };
    let rig_id = context.rig_id()?;
    context.town()?.send_mail(Some(rig_id), new).await?;
    created(json!({"sent": true}))
}

pub(in crate::http) async fn mailbox(context: Context) -> Reply {
    let page = context.query.page()?;
    let mails = context
        .town()?
        .mailbox(context.rig_id()?, context.agent_id()?, page)
        .await?;
    ok(mails.into_iter().map(WireMail::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn nudge(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let message = fields.required_text("message", MESSAGE);
    let seconds = fields.whole("ttl_seconds", NUDGE_TTL);
    fields.finish()?;
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    let agent_id = context.agent_id()?;
    let new = NewNudge {
        from_agent_id: "user".to_owned(),
        message,
        time_to_live: seconds.map_or(NUDGE_TTL_DEFAULT, Duration::from_secs),
    };
    created(WireMail::from(
        town.nudge(Some(rig_id), agent_id, new).await?,
    ))
}
