//! The bodies of requests to and answers from an agent server, in the protocol's own names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Serialize)]
pub(super) struct CreateSession<'a> {
    pub(super) title: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
}

/// What a session does at the moment.
#[derive(Deserialize)]
pub(super) struct SessionStatus {
    #[serde(rename = "type")]
    pub(super) status_type: String,
}

#[derive(Serialize)]
pub(super) struct PromptBody<'a> {
    pub(super) parts: [TextPart<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<Model<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) system: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct TextPart<'a> {
    #[serde(rename = "type")]
    pub(super) part_type: &'static str,
    pub(super) text: &'a str,
}

#[derive(Serialize)]
pub(super) struct Model<'a> {
    #[serde(rename = "providerID")]
    pub(super) provider_id: &'a str,
    #[serde(rename = "modelID")]
    pub(super) model_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct AddMcp<'a> {
    pub(super) name: &'a str,
    pub(super) config: RemoteMcp<'a>,
}

#[derive(Serialize)]
pub(super) struct RemoteMcp<'a> {
    #[serde(rename = "type")]
    pub(super) config_type: &'static str,
    pub(super) url: &'a str,
    pub(super) headers: BTreeMap<&'static str, String>,
    pub(super) oauth: bool,
    pub(super) enabled: bool,
    /// Milliseconds.
    pub(super) timeout: u64,
}

/// The state of one tool server in the answer to `POST /mcp`.
#[derive(Deserialize)]
pub(super) struct McpStatus {
    pub(super) status: String,
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct PermissionAnswer {
    pub(super) reply: &'static str,
}

#[derive(Serialize)]
pub(super) struct QuestionAnswers<'a> {
    pub(super) answers: &'a [Vec<String>],
}

/// One message of the event stream of all directories.
#[derive(Deserialize)]
pub(super) struct GlobalEvent<'a> {
    #[serde(borrow)]
    pub(super) directory: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) payload: Payload<'a>,
}

#[derive(Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) event_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) properties: Option<&'a RawValue>,
}

/// Where a session's id is found in an event's properties.
#[derive(Deserialize)]
pub(super) struct SessionHead<'a> {
    #[serde(borrow, rename = "sessionID")]
    pub(super) session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) part: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct NestedSession<'a> {
    #[serde(borrow, rename = "sessionID")]
    pub(super) session_id: Option<Cow<'a, str>>,
}
