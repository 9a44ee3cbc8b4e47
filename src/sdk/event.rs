//! The events of an agent server.
//!
//! The stream of all directories tells every durable event twice: as itself and as a `sync` copy
//! for other agent servers. The copies are dropped here. Heartbeats are kept: they show that the
//! stream lives.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use sse_stream::SseStream;

use super::wire::{GlobalEvent, NestedSession, SessionHead};
use super::{Error, acp};

/// The call that opens the stream, as errors name it.
const CALL: &str = "GET /global/event";

/// The type of the copies that are dropped.
const SYNC: &str = "sync";

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The directory that it is about, if any.
    pub directory: Option<String>,
    /// The session that it is about, if any.
    pub session_id: Option<String>,
    /// Its type, for example `message.part.delta`; `server.heartbeat` comes every ten seconds.
    pub event_type: String,
    /// Its properties, byte for byte as they were sent.
    pub properties: Box<RawValue>,
}

/// The stream of events that [`super::Client::subscribe`] opened.
pub struct EventStream {
    source: Source,
}

enum Source {
    Http(SseStream<Incoming>),
    Acp(acp::Events),
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    pub(super) fn of_http(body: Incoming) -> Self {
        Self {
            source: Source::Http(SseStream::new(body)),
        }
    }

    pub(super) const fn of_acp(events: acp::Events) -> Self {
        Self {
            source: Source::Acp(events),
        }
    }

    /// The next event; `None` once the stream has ended. After an error nothing more comes.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        match &mut self.source {
            Source::Http(stream) => next_of_http(stream).await,
            Source::Acp(events) => events.next().await.map(Ok),
        }
    }
}

async fn next_of_http(stream: &mut SseStream<Incoming>) -> Option<Result<Event, Error>> {
    loop {
        let block = poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await?;
        let data = match block {
            Ok(block) => block.data?,
            Err(error) => return Some(Err(broken(error))),
        };
        if let Some(event) = Event::parse(&data).transpose() {
            return Some(event);
        }
    }
}

impl Event {
    /// The event in one message of the stream; `None` if it is a copy.
    fn parse(data: &str) -> Result<Option<Self>, Error> {
        let event: GlobalEvent<'_> =
            serde_json::from_str(data).map_err(|error| Error::BadAnswer {
                call: CALL.to_owned(),
                reason: format!("an event is unreadable: {error}"),
            })?;
        if event.payload.event_type == SYNC {
            return Ok(None);
        }
        Ok(Some(Self {
            directory: event.directory.map(Into::into),
            session_id: event.payload.properties.and_then(session_of),
            event_type: event.payload.event_type.into(),
            properties: event
                .payload
                .properties
                .map_or_else(no_properties, ToOwned::to_owned),
        }))
    }
}

/// The session that the properties are about: named by themselves or by the message or part in them.
fn session_of(properties: &RawValue) -> Option<String> {
    let head: SessionHead<'_> = serde_json::from_str(properties.get()).ok()?;
    let nested = |value: Option<&RawValue>| {
        let nested: NestedSession<'_> = serde_json::from_str(value?.get()).ok()?;
        nested.session_id.map(Into::into)
    };
    head.session_id
        .map(Into::into)
        .or_else(|| nested(head.info))
        .or_else(|| nested(head.part))
}

fn no_properties() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

fn broken(error: sse_stream::Error) -> Error {
    Error::Unreachable {
        call: CALL.to_owned(),
        source: std::io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, event_type: &str, session_id: Option<&str>, properties: &str) {
        let event = Event::parse(data).unwrap().unwrap();
        assert_eq!(event.event_type, event_type);
        assert_eq!(event.session_id.as_deref(), session_id);
        assert_eq!(event.properties.get(), properties);
    }

    #[test]
    fn the_session_is_found_wherever_it_is_named() {
        let event = |event_type: &str, properties: &str| {
            format!(
                r#"{{"directory":"/w","project":"p","payload":{{"id":"evt_1","type":"{event_type}","properties":{properties}}}}}"#
            )
        };
        let delta = r#"{"sessionID":"ses_1","delta":"  \u00e9\n"}"#;
        check(
            &event("message.part.delta", delta),
            "message.part.delta",
            Some("ses_1"),
            delta,
        );
        let updated = r#"{"info":{"id":"msg_1","sessionID":"ses_2"}}"#;
        check(
            &event("message.updated", updated),
            "message.updated",
            Some("ses_2"),
            updated,
        );
        let part = r#"{"part":{"sessionID":"ses_3"},"time":1}"#;
        check(
            &event("message.part.updated", part),
            "message.part.updated",
            Some("ses_3"),
            part,
        );
        let edited = r#"{"file":"/w/a"}"#;
        check(&event("file.edited", edited), "file.edited", None, edited);
    }

    #[test]
    fn a_heartbeat_needs_no_directory_and_no_properties() {
        check(
            r#"{"payload":{"type":"server.heartbeat"}}"#,
            "server.heartbeat",
            None,
            "{}",
        );
    }

    #[test]
    fn copies_are_dropped() {
        let copy = r#"{"directory":"/w","payload":{"type":"sync","syncEvent":{"type":"session.created.1"}}}"#;
        assert!(Event::parse(copy).unwrap().is_none());
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for data in ["", "{}", "[1]", r#"{"payload":{"properties":{}}}"#] {
            assert!(
                matches!(Event::parse(data), Err(Error::BadAnswer { .. })),
                "{data}"
            );
        }
    }
}
