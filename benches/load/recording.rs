//! What real agents said: recorded event streams, compressed into the program.

use std::io::Read;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{During, Result};

/// The agents took a while to begin: in the first seconds hardly anything is said. One in so many of
/// the events belongs to that and is left out.
const LEAD_IN: usize = 30;

const ONE_AGENT: &[u8] = include_bytes!("../../tests/fixtures/events-opencode.jsonl.gz");
const EIGHT_AGENTS: &[u8] =
    include_bytes!("../../tests/fixtures/events-opencode-8-agents.jsonl.gz");

/// One recorded event.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) event_type: String,
    /// JSON.
    pub(crate) data: String,
    /// `"type":...,"data":...` as it stands in the server's frame.
    pub(crate) content: String,
}

/// One event of the stream of eight agents.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since the first.
    pub(crate) at_ms: u64,
    /// Which of the agents, from 0.
    pub(crate) agent: usize,
    pub(crate) event: Recorded,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Routed<'a> {
    #[serde(default)]
    directory: &'a str,
    #[serde(borrow)]
    payload: Line<'a>,
}

impl Recorded {
    pub(crate) fn new(event_type: &str, data: &str) -> Self {
        Self {
            event_type: event_type.to_owned(),
            data: data.to_owned(),
            content: format!(
                r#""type":{},"data":{data}"#,
                serde_json::Value::from(event_type)
            ),
        }
    }
}

/// The events of one agent, in order.
pub(crate) fn one_agent() -> Result<Vec<Recorded>> {
    let text = unpack(ONE_AGENT)?;
    let mut events = Vec::new();
    for line in text.lines() {
        let line: Line<'_> = serde_json::from_str(line).during("read the recording")?;
        if let Some(data) = line.properties {
            events.push(Recorded::new(line.event_type, data.get()));
        }
    }
    Ok(events)
}

/// The events of eight agents at work, with their times. What the agent server repeats as `sync`
/// and what belongs to no agent is left out, as the container does.
pub(crate) fn eight_agents() -> Result<Vec<Moment>> {
    let text = unpack(EIGHT_AGENTS)?;
    let mut folders: Vec<&str> = Vec::new();
    let mut moments: Vec<Moment> = Vec::new();
    let mut first = None;
    for line in text.lines() {
        let line: Routed<'_> = serde_json::from_str(line).during("read the recording")?;
        let (Some(data), Some(at)) = (line.payload.properties, milliseconds(line.payload.id))
        else {
            continue;
        };
        if !line.directory.starts_with('/') {
            continue;
        }
        let agent = folders
            .iter()
            .position(|folder| *folder == line.directory)
            .unwrap_or_else(|| {
                folders.push(line.directory);
                folders.len() - 1
            });
        let at_ms = at.saturating_sub(*first.get_or_insert(at));
        moments.push(Moment {
            at_ms,
            agent,
            event: Recorded::new(line.payload.event_type, data.get()),
        });
    }
    moments.sort_by_key(|moment| moment.at_ms);
    let mut busy = moments.split_off(moments.len() / LEAD_IN);
    let begin = busy.first().map_or(0, |moment| moment.at_ms);
    for moment in &mut busy {
        moment.at_ms -= begin;
    }
    Ok(busy)
}

/// An event's id begins with its time: 48 bits in hex, of which the upper 36 are milliseconds.
fn milliseconds(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("evt_")?.get(..12)?;
    Some(u64::from_str_radix(digits, 16).ok()? >> 12)
}

fn unpack(packed: &[u8]) -> Result<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .during("unpack the recording")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recordings_are_whole() {
        let one = one_agent().unwrap();
        assert_eq!(one.len(), 3713);
        let eight = eight_agents().unwrap();
        let agents = eight.iter().map(|moment| moment.agent).max().unwrap() + 1;
        let seconds = eight.last().unwrap().at_ms / 1000;
        let rate = eight.len() as u64 / seconds.max(1);
        assert!(
            agents >= 8 && (100..1000).contains(&rate),
            "{agents} agents, {rate}/s"
        );
        for event in one.iter().chain(eight.iter().map(|moment| &moment.event)) {
            serde_json::from_str::<&RawValue>(&event.data).unwrap();
        }
    }
}
