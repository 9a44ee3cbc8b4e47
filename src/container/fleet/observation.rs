//! What an agent server's event means for the agent that it is about.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::container::protocol::{AgentWaiting, AskKind};
use crate::model::Timestamp;
use crate::sdk::Event;

/// The meaning of one event.
#[derive(Debug)]
pub(super) enum Observation {
    /// A session was begun by another one.
    ChildSession { parent: String },
    /// The session works.
    Busy,
    /// The session's turn ended.
    Idle,
    /// The model could not be reached and is tried again.
    Retry {
        attempt: u32,
        message: String,
        /// When the next try is.
        next: Option<Timestamp>,
    },
    /// The model could not be reached, and the agent server waits until it is told to go on.
    Offline { message: String },
    /// The session's turn was ended by [`abort`](crate::sdk::Sessions::abort).
    Aborted,
    /// The session's turn failed.
    Failed { message: String },
    /// The session waits for a person.
    Asked(AgentWaiting),
    /// An ask was answered or withdrawn.
    Answered { ask_id: String },
    /// A message was begun or changed.
    Message { message_id: String, answer: Answer },
    /// A tool began to run.
    ToolRunning { part_id: String, tool: String },
    /// A tool came to its end.
    ToolEnded { part_id: String },
    /// Anything else.
    Activity,
}

/// How an answer of the model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is no answer, or not at its end yet.
    Open,
    /// It came to its end.
    Whole,
    /// It stopped without saying why.
    BrokenOff,
}

#[derive(Deserialize)]
struct SessionInfo {
    #[serde(rename = "parentID")]
    parent_id: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    info: SessionInfo,
}

#[derive(Deserialize)]
struct StatusChanged {
    status: Status,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Status {
    Busy,
    Retry {
        #[serde(default)]
        attempt: u32,
        #[serde(default)]
        message: String,
        /// Milliseconds since the Unix epoch.
        next: Option<f64>,
    },
    Offline {
        #[serde(default)]
        message: String,
    },
    // `idle` too: `session.idle` says the same, and it is the one that is counted.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Failed {
    error: Option<NamedError>,
}

#[derive(Deserialize)]
struct NamedError {
    #[serde(default)]
    name: String,
    #[serde(default)]
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct PermissionAsked {
    id: String,
    #[serde(default)]
    permission: String,
    #[serde(default)]
    patterns: Vec<String>,
}

#[derive(Deserialize)]
struct QuestionAsked {
    id: String,
    #[serde(default)]
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    question: String,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(rename = "requestID")]
    request_id: String,
}

#[derive(Deserialize)]
struct MessageUpdated {
    info: MessageInfo,
}

#[derive(Deserialize)]
struct MessageInfo {
    id: String,
    finish: Option<String>,
}

impl MessageInfo {
    fn answer(&self) -> Answer {
        match self.finish.as_deref() {
            None => Answer::Open,
            Some("unknown" | "") => Answer::BrokenOff,
            Some(_) => Answer::Whole,
        }
    }
}

#[derive(Deserialize)]
struct PartUpdated {
    part: Part,
}

#[derive(Deserialize)]
struct Part {
    id: String,
    tool: Option<String>,
    state: Option<ToolState>,
}

#[derive(Deserialize)]
struct ToolState {
    status: String,
}

impl Observation {
    /// Reads an event; one of an unknown shape is [`Observation::Activity`].
    pub(super) fn of(event: &Event) -> Self {
        let properties: &RawValue = &event.properties;
        match event.event_type.as_str() {
            "session.created" => match read::<Created>(properties) {
                Some(Created {
                    info:
                        SessionInfo {
                            parent_id: Some(parent),
                        },
                }) => Self::ChildSession { parent },
                _ => Self::Activity,
            },
            "session.idle" => Self::Idle,
            "session.status" => read::<StatusChanged>(properties)
                .map_or(Self::Activity, |changed| Self::of_status(changed.status)),
            "session.error" => Self::of_error(read(properties)),
            "permission.asked" => read::<PermissionAsked>(properties)
                .map_or(Self::Activity, |ask| Self::of_permission(ask, properties)),
            "question.asked" => read::<QuestionAsked>(properties)
                .map_or(Self::Activity, |ask| Self::of_question(ask, properties)),
            "permission.replied" | "question.replied" | "question.rejected" => {
                read::<Answered>(properties).map_or(Self::Activity, |answer| Self::Answered {
                    ask_id: answer.request_id,
                })
            }
            "message.updated" => {
                read::<MessageUpdated>(properties).map_or(Self::Activity, |message| Self::Message {
                    answer: message.info.answer(),
                    message_id: message.info.id,
                })
            }
            "message.part.updated" => read::<PartUpdated>(properties)
                .map_or(Self::Activity, |updated| Self::of_part(updated.part)),
            _ => Self::Activity,
        }
    }

    fn of_status(status: Status) -> Self {
        match status {
            Status::Busy => Self::Busy,
            Status::Offline { message } => Self::Offline { message },
            Status::Retry {
                attempt,
                message,
                next,
            } => Self::Retry {
                attempt,
                message,
                next: next.map(moment),
            },
            Status::Other => Self::Activity,
        }
    }

    fn of_error(failed: Option<Failed>) -> Self {
        let Some(error) = failed.and_then(|failed| failed.error) else {
            return Self::Failed {
                message: "the agent server gave no reason".to_owned(),
            };
        };
        if error.name == "MessageAbortedError" {
            return Self::Aborted;
        }
        let message = error
            .data
            .get("message")
            .and_then(serde_json::Value::as_str);
        Self::Failed {
            message: match message {
                Some(message) if !message.is_empty() => message.to_owned(),
                _ => error.name,
            },
        }
    }

    fn of_permission(ask: PermissionAsked, detail: &RawValue) -> Self {
        let title = match ask.patterns.as_slice() {
            [] => ask.permission,
            patterns => format!("{}: {}", ask.permission, patterns.join(", ")),
        };
        Self::Asked(AgentWaiting {
            ask_id: ask.id,
            kind: AskKind::Permission,
            title: shortened(&title),
            detail: detail.to_owned(),
        })
    }

    fn of_question(ask: QuestionAsked, detail: &RawValue) -> Self {
        let title = ask
            .questions
            .into_iter()
            .next()
            .map(|first| first.question)
            .unwrap_or_default();
        Self::Asked(AgentWaiting {
            ask_id: ask.id,
            kind: AskKind::Question,
            title: shortened(&title),
            detail: detail.to_owned(),
        })
    }

    fn of_part(part: Part) -> Self {
        match (part.tool, part.state) {
            (Some(tool), Some(state)) => match state.status.as_str() {
                "running" => Self::ToolRunning {
                    part_id: part.id,
                    tool,
                },
                "completed" | "error" => Self::ToolEnded { part_id: part.id },
                _ => Self::Activity,
            },
            _ => Self::Activity,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number beyond all times becomes the last one"
)]
fn moment(millis: f64) -> Timestamp {
    Timestamp::from_millis(millis as i64)
}

fn read<'a, T: Deserialize<'a>>(properties: &'a RawValue) -> Option<T> {
    serde_json::from_str(properties.get()).ok()
}

/// A title is one line that fits a list.
fn shortened(text: &str) -> String {
    const TITLE_CHARS_MAX: usize = 200;
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(TITLE_CHARS_MAX)
        .collect()
}
