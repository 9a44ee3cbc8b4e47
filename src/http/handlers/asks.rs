//! What agents ask people.

use crate::container::protocol::PermissionAnswer;
use crate::http::context::{Context, Reply, ok};
use crate::http::error::ApiError;
use crate::http::extract::Fields;
use crate::http::wire::WireAsk;
use crate::model::AskId;
use crate::town::AskReply;

pub(in crate::http) async fn list(context: Context) -> Reply {
    let agent_id = context.query.id("agent_id")?;
    let page = context.query.page()?;
    let asks = context.town()?.asks(agent_id, page).await?;
    ok(asks.into_iter().map(WireAsk::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn reply(context: Context) -> Reply {
    let ask_id: AskId = context
        .param("ask")
        .and_then(|text| text.parse().ok())
        .ok_or(ApiError::not_found("ask"))?;
    let mut fields = context.fields()?;
    let answer = answer(&mut fields);
    fields.finish()?;
    let answer = answer.ok_or_else(|| {
        ApiError::invalid_field("reply", "is required, or answers, or reject as true")
    })?;
    ok(WireAsk::from(
        context.town()?.answer_ask(ask_id, answer).await?,
    ))
}

/// `reply` answers a request for permission; `answers`, or `reject`, a question.
fn answer(fields: &mut Fields<'_>) -> Option<AskReply> {
    let reply = fields.choice::<ReplyName>("reply");
    let reject = fields.flag("reject");
    let answers = fields.answers("answers");
    match (reply, reject, answers) {
        (Some(ReplyName(reply)), ..) => Some(AskReply::Permission(reply)),
        (None, Some(true), _) => Some(AskReply::NoAnswer),
        (None, _, Some(answers)) => Some(AskReply::Answers(answers)),
        (None, _, None) => None,
    }
}

/// The name of an answer to a request for permission.
struct ReplyName(PermissionAnswer);

impl std::str::FromStr for ReplyName {
    type Err = crate::model::UnknownVariant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "once" => Ok(Self(PermissionAnswer::Once)),
            "always" => Ok(Self(PermissionAnswer::Always)),
            "reject" => Ok(Self(PermissionAnswer::Reject)),
            _ => Err(crate::model::UnknownVariant {
                allowed: "once, always, reject",
            }),
        }
    }
}
