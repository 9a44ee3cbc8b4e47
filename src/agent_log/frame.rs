//! One event as a finished WebSocket text frame (RFC 6455, section 5.2): final, unmasked.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{AgentId, Timestamp};

const FINAL_TEXT: u8 = 0x81;

/// Whose log it is; stands in every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An agent's events.
    Agent(AgentId),
    /// The town's own feed.
    Town,
}

impl Subject {
    /// The fields that name the subject in a message, without braces.
    #[must_use]
    pub fn fields(self) -> String {
        match self {
            Self::Agent(agent_id) => format!(r#""agentId":"{agent_id}""#),
            Self::Town => r#""topic":"town""#.to_owned(),
        }
    }
}

/// An event as read back from its frame.
#[derive(Debug, Deserialize)]
pub struct EventView<'a> {
    /// Its id in the log.
    pub id: u64,
    /// Its type.
    #[serde(rename = "type", borrow)]
    pub event_type: std::borrow::Cow<'a, str>,
    /// What it carries, as it was given.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// When it happened.
    #[serde(borrow)]
    pub timestamp: std::borrow::Cow<'a, str>,
}

impl<'a> EventView<'a> {
    /// Reads a whole frame; `None` if it is not one of ours.
    #[must_use]
    pub fn of_frame(frame: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(payload(frame)?).ok()
    }
}

/// What a whole text frame of ours holds.
#[must_use]
pub fn text_payload(frame: &[u8]) -> Option<&str> {
    std::str::from_utf8(payload(frame)?).ok()
}

/// A whole text frame around `payload`.
#[must_use]
pub fn text_frame(payload: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    push_header(&mut frame, payload.len());
    frame.extend_from_slice(payload.as_bytes());
    frame
}

/// Appends one event's frame to `out`. `data` must be JSON.
pub(super) fn push_event(
    out: &mut Vec<u8>,
    scratch: &mut String,
    subject_fields: &str,
    id: u64,
    event_type: &str,
    data: &str,
    timestamp: Timestamp,
) {
    scratch.clear();
    scratch.push('{');
    scratch.push_str(subject_fields);
    let event_type = serde_json::Value::from(event_type);
    write!(scratch, r#","id":{id},"type":{event_type},"data":"#)
        .and_then(|()| {
            scratch.push_str(data);
            write!(scratch, r#","timestamp":"{timestamp}"}}"#)
        })
        .expect("writing to a string can't fail");
    push_header(out, scratch.len());
    out.extend_from_slice(scratch.as_bytes());
}

fn push_header(out: &mut Vec<u8>, len: usize) {
    out.push(FINAL_TEXT);
    if let Ok(short @ 0..=125) = u8::try_from(len) {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

fn payload(frame: &[u8]) -> Option<&[u8]> {
    match frame.get(1)? {
        127 => frame.get(10..),
        126 => frame.get(4..),
        _ => frame.get(2..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_length_reads_back() {
        for len in [0usize, 90, 100, 125, 126, 1000, 65_535, 65_536, 200_000] {
            let data = format!("\"{}\"", "x".repeat(len));
            let mut out = Vec::new();
            let agent = Subject::Agent(AgentId::random());
            let moment = Timestamp::from_millis(1_795_329_054_719);
            push_event(
                &mut out,
                &mut String::new(),
                &agent.fields(),
                7,
                "a\"b",
                &data,
                moment,
            );
            let event = EventView::of_frame(&out).unwrap();
            assert_eq!((event.id, event.event_type.as_ref()), (7, "a\"b"));
            assert_eq!(event.data.get(), data);
            assert_eq!(event.timestamp, moment.to_string());
            assert_eq!(out[0], FINAL_TEXT);
        }
    }
}
