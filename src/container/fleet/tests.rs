//! What events and messages of the agent server mean.

use serde_json::{Value, json};

use super::command::TurnSeen;
use super::observation::Observation;
use super::turns::turn_of;
use crate::sdk::Event;

fn observed(event_type: &str, properties: &Value) -> String {
    let event = Event {
        directory: None,
        session_id: Some("ses_1".to_owned()),
        event_type: event_type.to_owned(),
        properties: serde_json::value::to_raw_value(properties).unwrap(),
    };
    format!("{:?}", Observation::of(&event))
}

#[test]
fn events_are_understood_and_strange_ones_are_mere_activity() {
    let check = |event_type: &str, properties: Value, expected: &str| {
        let found = observed(event_type, &properties);
        assert!(found.starts_with(expected), "{event_type}: {found}");
    };
    check("session.idle", json!({}), "Idle");
    check(
        "session.status",
        json!({"status": {"type": "busy"}}),
        "Busy",
    );
    check(
        "session.status",
        json!({"status": {"type": "idle"}}),
        "Activity",
    );
    check(
        "session.status",
        json!({"status": {"type": "offline", "message": "m"}}),
        "Offline",
    );
    check(
        "session.status",
        json!({"status": {"type": "retry", "attempt": 4, "message": "m"}}),
        "Retry",
    );
    check("session.status", json!({"status": 7}), "Activity");
    check(
        "session.error",
        json!({"error": {"name": "MessageAbortedError"}}),
        "Aborted",
    );
    check(
        "session.error",
        json!({"error": {"name": "APIError", "data": {"message": "no key"}}}),
        "Failed { message: \"no key\"",
    );
    check("session.error", json!({}), "Failed");
    check(
        "permission.asked",
        json!({"id": "per_1", "permission": "bash", "patterns": ["rm *"]}),
        "Asked",
    );
    check("permission.asked", json!({"patterns": 1}), "Activity");
    check(
        "question.rejected",
        json!({"requestID": "que_1"}),
        "Answered",
    );
    check(
        "session.created",
        json!({"info": {"parentID": "ses_0"}}),
        "ChildSession",
    );
    check("session.created", json!({"info": {}}), "Activity");
    check(
        "message.part.updated",
        json!({"part": {"id": "p", "tool": "bash", "state": {"status": "running"}}}),
        "ToolRunning",
    );
    check("message.part.delta", json!({"delta": "x"}), "Activity");
}

#[test]
fn the_last_message_tells_how_a_turn_ended() {
    let check = |info: Value, expected: TurnSeen| {
        assert_eq!(
            turn_of(&json!({"info": info, "parts": []}).to_string()),
            expected
        );
    };
    check(json!({"role": "user"}), TurnSeen::Ended);
    check(json!({"role": "assistant", "time": {}}), TurnSeen::Ended);
    check(
        json!({"role": "assistant", "error": {"name": "MessageAbortedError"}}),
        TurnSeen::Ended,
    );
    check(
        json!({"role": "assistant", "error": {"name": "E", "data": {"message": "m"}}}),
        TurnSeen::Failed("m".to_owned()),
    );
    check(
        json!({"role": "assistant", "error": {"name": "E"}}),
        TurnSeen::Failed("E".to_owned()),
    );
}

#[test]
fn how_an_answer_ended_is_seen() {
    let check = |info: Value, expected: &str| {
        let found = observed("message.updated", &json!({"info": info}));
        assert!(found.contains(expected), "{info}: {found}");
    };
    check(json!({"id": "m"}), "answer: Open");
    check(json!({"id": "m", "finish": "stop"}), "answer: Whole");
    check(json!({"id": "m", "finish": "tool-calls"}), "answer: Whole");
    check(json!({"id": "m", "finish": "unknown"}), "answer: BrokenOff");
    let retry =
        json!({"type": "retry", "attempt": 1, "message": "m", "next": 1_795_358_017_760_i64});
    let found = observed("session.status", &json!({"status": retry}));
    assert!(found.contains("1795358017760"), "{found}");
}
