//! One event as a finished WebSocket text frame (RFC 6455, section 5.2): final, unmasked.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{AgentId, Timestamp};

const FINAL_TEXT: u8 = 0x81;
/// Of an unmasked frame.
const HEADER_LEN_MAX: usize = 10;

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

/// Encodes one log's events. It remembers what most events share with the one before.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    subject_fields: &'a str,
    moment: Option<Timestamp>,
    /// `moment` as text.
    timestamp: String,
    scratch: String,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(subject_fields: &'a str) -> Self {
        Self {
            subject_fields,
            moment: None,
            timestamp: String::new(),
            scratch: String::new(),
        }
    }

    /// Appends one event's frame to `out`. `data` must be JSON.
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        id: u64,
        event_type: &str,
        data: &str,
        moment: Timestamp,
    ) {
        if self.moment.replace(moment) != Some(moment) {
            self.timestamp = moment.to_string();
        }
        // Everything before the data: its length decides the header, which comes first.
        let head = &mut self.scratch;
        head.clear();
        write!(head, r#"{{{},"id":{id},"type":"#, self.subject_fields)
            .expect("writing to a string can't fail");
        push_json_text(head, event_type);
        head.push_str(r#","data":"#);
        let end: [&str; 3] = [r#","timestamp":""#, &self.timestamp, r#""}"#];
        let len = head.len() + data.len() + end.iter().map(|part| part.len()).sum::<usize>();
        out.reserve(len + HEADER_LEN_MAX);
        push_header(out, len);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(data.as_bytes());
        for part in end {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// `text` as a JSON string. Types are plain words, nearly always.
fn push_json_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
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

/// The frames of ours that stand back to back in `bytes`.
pub fn frames_in(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (frame, behind) = rest.split_at_checked(frame_len(rest)?)?;
        rest = behind;
        Some(frame)
    })
}

fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = match bytes.get(1)? {
        127 => u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?),
        126 => u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
        short => u64::from(*short),
    };
    let payload = payload(bytes)?;
    usize::try_from(len)
        .ok()?
        .checked_add(bytes.len() - payload.len())
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
            let fields = agent.fields();
            Encoder::new(&fields).push(&mut out, 7, "a\"b", &data, moment);
            let event = EventView::of_frame(&out).unwrap();
            assert_eq!((event.id, event.event_type.as_ref()), (7, "a\"b"));
            assert_eq!(event.data.get(), data);
            assert_eq!(event.timestamp, moment.to_string());
            assert_eq!(out[0], FINAL_TEXT);
            let three = [&out[..], b"\x81\x00", &out].concat();
            let frames: Vec<_> = frames_in(&three).collect();
            assert_eq!(frames, [&out[..], b"\x81\x00", &out]);
        }
    }
}
