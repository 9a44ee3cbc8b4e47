//! What the protocol's updates become.

use std::path::Path;

use agent_client_protocol::v1::schema::{SessionUpdate, Usage};
use serde_json::{Value, json};

use super::transcript::Transcript;
use super::wire::Spent;
use crate::model::Timestamp;
use crate::sdk::Event;

const NOW: Timestamp = Timestamp::from_millis(1_795_328_948_165);

fn transcript() -> Transcript {
    Transcript::new("ses_1", Path::new("/w/toast"), false)
}

/// An update as an agent sends it.
fn update(update: Value) -> SessionUpdate {
    serde_json::from_value(update).expect("an update of the protocol")
}

fn chunk(kind: &str, text: &str) -> SessionUpdate {
    update(json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}}))
}

fn properties(event: &Event) -> Value {
    serde_json::from_str(event.properties.get()).unwrap()
}

/// The events as their types, with what is told of text.
fn told(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            let properties = properties(event);
            assert_eq!(properties["sessionID"], "ses_1");
            assert_eq!(event.session_id.as_deref(), Some("ses_1"));
            assert_eq!(event.directory.as_deref(), Some("/w/toast"));
            let said = match event.event_type.as_str() {
                "message.part.delta" => properties["delta"].clone(),
                "message.part.updated" => json!([
                    properties["part"]["type"],
                    properties["part"]["text"],
                    properties["part"]["state"]["status"]
                ]),
                "message.updated" => properties["info"]["role"].clone(),
                "session.error" => properties["error"]["name"].clone(),
                _ => Value::Null,
            };
            format!("{} {said}", event.event_type)
        })
        .collect()
}

#[test]
fn text_is_announced_grows_and_is_told_whole() {
    let mut transcript = transcript();
    let mut events = transcript.prompted("Do it", NOW);
    for update in [
        chunk("agent_thought_chunk", "Hm"),
        chunk("agent_message_chunk", "Hel"),
        chunk("agent_message_chunk", "lo"),
        chunk("user_message_chunk", "Do it"),
    ] {
        events.extend(transcript.update(update, NOW));
    }
    events.extend(transcript.answered("end_turn", None, NOW));
    assert_eq!(
        told(&events),
        [
            r#"message.updated "user""#,
            r#"message.part.updated ["text","Do it",null]"#,
            r#"message.updated "assistant""#,
            r#"message.part.updated ["reasoning","",null]"#,
            r#"message.part.delta "Hm""#,
            r#"message.part.updated ["reasoning","Hm",null]"#,
            r#"message.part.updated ["text","",null]"#,
            r#"message.part.delta "Hel""#,
            r#"message.part.delta "lo""#,
            r#"message.part.updated ["text","Hello",null]"#,
            r#"message.updated "assistant""#,
        ]
    );
    // The parts and deltas are of one message, and messages' ids rise.
    let ids: Vec<String> = events
        .iter()
        .filter(|event| event.event_type == "message.updated")
        .map(|event| properties(event)["info"]["id"].to_string())
        .collect();
    assert!(ids[0] < ids[1]);
    assert_eq!(ids[1], ids[2]);
    assert_eq!(properties(&events[4])["messageID"].to_string(), ids[1]);
    assert!(transcript.has_stirred());
}

#[test]
fn a_tool_is_one_part_from_its_call_to_its_end() {
    let mut transcript = transcript();
    let mut events = Vec::new();
    for change in [
        json!({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "bash",
            "kind": "execute", "status": "pending"}),
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "c1", "status": "in_progress",
            "title": "List", "rawInput": {"command": "ls"}}),
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "c1", "status": "completed",
            "content": [{"type": "content", "content": {"type": "text", "text": "a.txt"}}],
            "rawOutput": {"output": "a.txt"}}),
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "c2", "status": "failed",
            "title": "gt_done", "rawOutput": "no hook"}),
    ] {
        events.extend(transcript.update(update(change), NOW));
    }
    let parts: Vec<Value> = events
        .iter()
        .filter(|event| event.event_type == "message.part.updated")
        .map(|event| properties(event)["part"].clone())
        .collect();
    assert_eq!(parts.len(), 4);
    assert!(parts[..3].iter().all(|part| part["id"] == parts[0]["id"]));
    let last = &parts[2];
    assert_eq!(
        (&last["tool"], &last["callID"]),
        (&json!("bash"), &json!("c1"))
    );
    assert_eq!(last["state"]["status"], "completed");
    assert_eq!(last["state"]["title"], "List");
    assert_eq!(last["state"]["input"], json!({"command": "ls"}));
    assert_eq!(last["state"]["output"], "a.txt");
    assert_eq!(parts[3]["tool"], "gt_done");
    assert_eq!(parts[3]["state"]["error"], "no hook");
    assert_ne!(parts[3]["id"], last["id"]);
}

#[test]
fn a_plan_is_the_list_of_what_is_to_be_done() {
    let plan = update(json!({"sessionUpdate": "plan", "entries": [
        {"content": "Write", "priority": "high", "status": "in_progress"},
        {"content": "Push", "priority": "low", "status": "pending"}]}));
    let events = transcript().update(plan, NOW);
    assert_eq!(events[0].event_type, "todo.updated");
    assert_eq!(
        properties(&events[0])["todos"],
        json!([
            {"content": "Write", "priority": "high", "status": "in_progress"},
            {"content": "Push", "priority": "low", "status": "pending"},
        ])
    );
}

#[test]
fn what_a_turn_used_is_on_its_last_message() {
    let usage = |input: u64, output: u64| {
        let usage = json!({"inputTokens": input, "outputTokens": output, "totalTokens": 0});
        let usage: Usage = serde_json::from_value(usage).unwrap();
        Some(Spent::of(&usage))
    };
    let cost = |amount: f64| {
        update(
            json!({"sessionUpdate": "usage_update", "used": 1, "size": 2,
            "cost": {"amount": amount, "currency": "USD"}}),
        )
    };
    let mut transcript = transcript();
    let mut turn = |spent, amount: f64| {
        transcript.prompted("Go on", NOW);
        transcript.update(chunk("agent_message_chunk", "Yes"), NOW);
        transcript.update(cost(amount), NOW);
        let events = transcript.answered("end_turn", spent, NOW);
        let info = properties(events.last().unwrap())["info"].clone();
        let tokens = &info["tokens"];
        (
            tokens["input"].as_u64().unwrap(),
            tokens["output"].as_u64().unwrap(),
            info["cost"].as_f64().unwrap(),
        )
    };
    assert_eq!(turn(usage(100, 10), 0.5), (100, 10, 0.5));
    // Both count on for the whole session.
    assert_eq!(turn(usage(150, 30), 0.75), (50, 20, 0.25));
    assert_eq!(turn(None, 0.75), (0, 0, 0.0));
    // An agent that counts each turn for itself.
    assert_eq!(turn(usage(20, 5), 1.0), (20, 5, 0.25));
}

#[test]
fn a_session_that_is_gone_on_with_does_not_count_what_was_before() {
    let mut transcript = Transcript::new("ses_1", Path::new("/w/toast"), true);
    transcript.update(chunk("agent_message_chunk", "Yes"), NOW);
    let cost = json!({"sessionUpdate": "usage_update", "used": 1, "size": 2,
        "cost": {"amount": 7.5, "currency": "USD"}});
    transcript.update(update(cost), NOW);
    let events = transcript.answered("end_turn", None, NOW);
    assert_eq!(properties(events.last().unwrap())["info"]["cost"], 0.0);
}

#[test]
fn another_message_of_the_agents_is_another_message() {
    let mut transcript = transcript();
    let said = |id: &str, text: &str| {
        update(
            json!({"sessionUpdate": "agent_message_chunk", "messageId": id,
            "content": {"type": "text", "text": text}}),
        )
    };
    let mut events = transcript.update(said("m1", "a"), NOW);
    events.extend(transcript.update(said("m2", "b"), NOW));
    assert_eq!(
        told(&events)[3..6],
        [
            r#"message.part.updated ["text","a",null]"#,
            r#"message.updated "assistant""#,
            r#"message.updated "assistant""#,
        ]
    );
}

#[test]
fn a_part_is_never_longer_than_an_event_may_be() {
    let mut transcript = transcript();
    let long = "x".repeat(100_000);
    let mut events = Vec::new();
    for _ in 0..20 {
        events.extend(transcript.update(chunk("agent_message_chunk", &long), NOW));
    }
    assert!(
        events
            .iter()
            .all(|event| event.properties.get().len() < 512 * 1024)
    );
}

#[test]
fn an_end_with_an_error_ends_the_message_too() {
    let mut transcript = transcript();
    transcript.update(chunk("agent_message_chunk", "Hel"), NOW);
    assert_eq!(
        told(&transcript.aborted(NOW)),
        [
            r#"message.part.updated ["text","Hel",null]"#,
            r#"message.updated "assistant""#,
            r#"session.error "MessageAbortedError""#,
        ]
    );
    assert_eq!(
        told(&transcript.failed("why", NOW)),
        [r#"session.error "AgentError""#]
    );
}
