//! What is said on the socket besides events.

use serde::Deserialize;

use crate::agent_log::{EventView, Position, Subject, text_payload};
use crate::model::{AgentId, Epoch};

/// The subprotocol's version, told in `hello`.
const PROTOCOL: u32 = 1;

/// A valid message of the client.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Subscribe {
        subject: Subject,
        after: Option<u64>,
        epoch: Option<Epoch>,
    },
    Unsubscribe(Subject),
    Ping(serde_json::Value),
}

/// What is wrong with a client's message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid(pub(super) String);

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "agentId")]
    agent_id: Option<String>,
    topic: Option<String>,
    #[serde(rename = "afterEventId")]
    after_event_id: Option<u64>,
    epoch: Option<String>,
    #[serde(default)]
    id: serde_json::Value,
}

impl Request {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let wire: Wire = serde_json::from_str(text).map_err(|error| Invalid(error.to_string()))?;
        match wire.kind.as_str() {
            "subscribe" => {
                let subject = subject(&wire)?;
                // An epoch of any other form is simply not the log's.
                let epoch = wire
                    .epoch
                    .as_deref()
                    .map(|text| text.parse().unwrap_or(Epoch::from_bytes([0; 16])));
                Ok(Self::Subscribe {
                    subject,
                    after: wire.after_event_id,
                    epoch,
                })
            }
            "unsubscribe" => subject(&wire).map(Self::Unsubscribe),
            "ping" => Ok(Self::Ping(wire.id)),
            other => Err(Invalid(format!(
                "type must be one of subscribe, unsubscribe, ping, not {other:?}"
            ))),
        }
    }
}

fn subject(wire: &Wire) -> Result<Subject, Invalid> {
    match (wire.agent_id.as_deref(), wire.topic.as_deref()) {
        (Some(id), None) => id
            .parse::<AgentId>()
            .map(Subject::Agent)
            .map_err(|error| Invalid(format!("agentId is {error}"))),
        (None, Some("town")) => Ok(Subject::Town),
        (None, Some(topic)) => Err(Invalid(format!("topic must be \"town\", not {topic:?}"))),
        (None, None) => Err(Invalid("agentId or topic is missing".to_owned())),
        (Some(_), Some(_)) => Err(Invalid("agentId and topic exclude each other".to_owned())),
    }
}

pub(super) fn hello(town_id: &str) -> String {
    format!(r#"{{"type":"hello","townId":"{town_id}","protocol":{PROTOCOL}}}"#)
}

pub(super) fn subscribed(subject: Subject, position: Position, recovered: bool) -> String {
    let Position {
        epoch,
        first_id,
        last_id,
    } = position;
    format!(
        r#"{{"type":"subscribed",{},"epoch":"{epoch}","firstEventId":{first_id},"lastEventId":{last_id},"recovered":{recovered}}}"#,
        subject.fields()
    )
}

pub(super) fn live(subject: Subject, last_id: u64) -> String {
    format!(
        r#"{{"type":"live",{},"lastEventId":{last_id}}}"#,
        subject.fields()
    )
}

pub(super) fn ended(subject: Subject) -> String {
    format!(r#"{{"type":"ended",{}}}"#, subject.fields())
}

/// An event's message with its type under `event` too, as older clients read it.
pub(super) fn with_event(frame: &[u8]) -> String {
    let payload = text_payload(frame).unwrap_or_default();
    let event_type = EventView::of_frame(frame).map(|event| event.event_type.into_owned());
    match (payload.strip_prefix('{'), event_type) {
        (Some(fields), Some(event_type)) => {
            let event_type = serde_json::Value::from(event_type);
            format!(r#"{{"event":{event_type},{fields}"#)
        }
        _ => payload.to_owned(),
    }
}

pub(super) fn pong(id: &serde_json::Value) -> String {
    format!(r#"{{"type":"pong","id":{id}}}"#)
}

pub(super) fn error(code: &str, message: &str, subject: Option<Subject>) -> String {
    let message = serde_json::Value::from(message);
    let fields = subject
        .map(|subject| format!(",{}", subject.fields()))
        .unwrap_or_default();
    format!(r#"{{"type":"error","code":"{code}","message":{message}{fields}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_client_reads_the_type_as_event() {
        let payload = r#"{"agentId":"a","id":1,"type":"a\"b","data":{"x":[1]},"timestamp":"t"}"#;
        let frame = crate::agent_log::text_frame(payload);
        let older = with_event(&frame);
        assert_eq!(older, format!(r#"{{"event":"a\"b",{}"#, &payload[1..]));
        assert_eq!(with_event(&[]), "");
    }

    #[test]
    fn requests_are_parsed_or_refused() {
        let agent = AgentId::from_bytes([1; 16]);
        let of = Subject::Agent(agent);
        let ok = [
            (
                format!(r#"{{"type":"subscribe","agentId":"{agent}"}}"#),
                Request::Subscribe {
                    subject: of,
                    after: None,
                    epoch: None,
                },
            ),
            (
                r#"{"type":"subscribe","topic":"town","afterEventId":0,"new":1}"#.to_owned(),
                Request::Subscribe {
                    subject: Subject::Town,
                    after: Some(0),
                    epoch: None,
                },
            ),
            (
                format!(r#"{{"type":"unsubscribe","agentId":"{agent}"}}"#),
                Request::Unsubscribe(of),
            ),
            (
                r#"{"type":"ping","id":[1]}"#.to_owned(),
                Request::Ping(serde_json::json!([1])),
            ),
            (
                r#"{"type":"ping"}"#.to_owned(),
                Request::Ping(serde_json::Value::Null),
            ),
        ];
        for (text, expected) in ok {
            assert_eq!(Request::parse(&text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "7",
            "[]",
            "{}",
            r#"{"type":"dance"}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","agentId":"x"}"#,
            r#"{"type":"subscribe","topic":"moon"}"#,
            r#"{"type":"subscribe","topic":"town","afterEventId":-1}"#,
            r#"{"type":"subscribe","topic":"town","afterEventId":"1"}"#,
        ] {
            assert!(Request::parse(text).is_err(), "{text}");
        }
    }
}
