//! The events of an agent server.

use serde_json::value::RawValue;

use super::Error;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The directory that it is about, if any.
    pub directory: Option<String>,
    /// The session that it is about, if any.
    pub session_id: Option<String>,
    /// Its type, for example `message.part.delta`.
    pub event_type: String,
    /// Its properties, byte for byte as they were sent.
    pub properties: Box<RawValue>,
}

/// The stream of events that [`super::Client::subscribe`] opened.
#[derive(Debug)]
pub struct EventStream {}

impl EventStream {
    /// The next event; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        None
    }
}
