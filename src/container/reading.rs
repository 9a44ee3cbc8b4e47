//! What the server reads in an agent server's events besides passing them on: whether they show
//! life, and what a message has used.

use std::borrow::Cow;

use serde::Deserialize;

use crate::model::Usage;

/// An agent server's message was made or changed.
pub(super) const MESSAGE_UPDATED: &str = "message.updated";
const PART_UPDATED: &str = "message.part.updated";

/// Events that come of being spoken to, or of nothing at all.
const NO_LIFE: &[&str] = &[
    "session.created",
    "session.updated",
    "session.status",
    "session.diff",
    "server.connected",
    "server.heartbeat",
    "agent.setback",
];

/// Parts of a message that only an agent at work makes. Text may be what it was told; its own
/// comes as deltas as well.
const OWN_PARTS: &[&str] = &["tool", "reasoning", "step-start", "step-finish", "patch"];

/// Whether an event shows that the agent itself does something. That it was prompted does not: a
/// nudge must not look like its own answer.
pub(super) fn shows_life(event_type: &str, data: &str) -> bool {
    match event_type {
        MESSAGE_UPDATED => serde_json::from_str::<Updated<'_>>(data)
            .is_ok_and(|updated| updated.info.role == ASSISTANT),
        PART_UPDATED => serde_json::from_str::<PartUpdated<'_>>(data)
            .is_ok_and(|updated| OWN_PARTS.contains(&updated.part.kind.as_ref())),
        other => !NO_LIFE.contains(&other),
    }
}

/// What an agent's message has used by now, if anything, and the message's id.
pub(super) fn used(data: &str) -> Option<(String, Usage)> {
    let Updated { info } = serde_json::from_str(data).ok()?;
    if info.role != ASSISTANT {
        return None;
    }
    let tokens = info.tokens;
    let usage = Usage {
        input: whole(tokens.input),
        output: whole(tokens.output),
        reasoning: whole(tokens.reasoning),
        cache_read: whole(tokens.cache.read),
        cache_write: whole(tokens.cache.write),
        cost_nanos: whole(info.cost * 1e9),
    };
    (!usage.is_zero()).then(|| (info.id.into_owned(), usage))
}

/// A number of an agent server as a count: what is no count at all is nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the ends becomes the end, NaN becomes 0"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

const ASSISTANT: &str = "assistant";

#[derive(Deserialize)]
struct Updated<'a> {
    #[serde(borrow)]
    info: Info<'a>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(default)]
    cost: f64,
    #[serde(default)]
    tokens: Tokens,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    input: f64,
    output: f64,
    reasoning: f64,
    cache: Cache,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cache {
    read: f64,
    write: f64,
}

#[derive(Deserialize)]
struct PartUpdated<'a> {
    #[serde(borrow)]
    part: Part<'a>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_it_used() {
        let data = r#"{"sessionID":"s","info":{"id":"msg_1","role":"assistant","cost":0.0125,
            "tokens":{"total":1291,"input":1000,"output":291,"reasoning":7,
            "cache":{"write":2,"read":3}}}}"#;
        let (id, usage) = used(data).unwrap();
        assert_eq!(id, "msg_1");
        assert_eq!(usage.tokens(), 1303);
        assert_eq!(usage.cost_nanos, 12_500_000);
    }

    #[test]
    fn what_used_nothing_or_is_no_answer_says_nothing() {
        let silent = [
            r#"{"info":{"id":"m","role":"assistant","cost":0,"tokens":{"input":0}}}"#,
            r#"{"info":{"id":"m","role":"user","cost":5}}"#,
            r#"{"info":{"id":"m","role":"assistant","cost":-3,"tokens":{"input":-1e300}}}"#,
            r#"{"info":{}}"#,
            "[]",
        ];
        for data in silent {
            assert_eq!(used(data), None, "{data}");
        }
    }

    #[test]
    fn only_what_the_agent_does_itself_shows_life() {
        let cases = [
            ("message.part.delta", "{}", true),
            (
                "message.updated",
                r#"{"info":{"id":"m","role":"assistant"}}"#,
                true,
            ),
            (
                "message.updated",
                r#"{"info":{"id":"m","role":"user"}}"#,
                false,
            ),
            ("message.part.updated", r#"{"part":{"type":"tool"}}"#, true),
            ("message.part.updated", r#"{"part":{"type":"text"}}"#, false),
            ("session.updated", "{}", false),
            ("permission.asked", "{}", true),
            ("agent.idle", "{}", true),
        ];
        for (event_type, data, alive) in cases {
            assert_eq!(shows_life(event_type, data), alive, "{event_type} {data}");
        }
    }
}
