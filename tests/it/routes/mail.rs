//! Mail.

use serde_json::{Value, json};

use super::case::Case;
use super::case::Field::{Choice, Id, LongText, Text, Whole};

/// What a mail looks like.
fn mail(expires_at: Value) -> Value {
    let mut mail = json!({
        "id": "948d50e0-1d7c-4966-9c0d-986824c22a1d", "from_agent_id": "user",
        "to_agent_id": "a2a5f534-8747-4f2b-bfa1-a0371bccfe21", "subject": "s", "body": "b",
        "delivered": false, "created_at": "2026-11-22T06:30:10.033Z", "delivered_at": null,
        "mail_type": "message", "dropped": null,
    });
    mail["expires_at"] = expires_at;
    mail
}

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/mail").prepare(
            async |world, ids| {
                for subject in ["Hello", "Hello2"] {
                    let mail = json!({
                        "from_agent_id": ids.other_agent, "to_agent_id": ids.agent,
                        "subject": subject, "body": "Hi",
                    });
                    let path = format!("{}/mail", world.rig);
                    world.server.post(&path, mail).await;
                }
            },
        ),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/mail").fields(&[
            ("from_agent_id!", Text(128)),
            ("to_agent_id!", Id),
            ("subject!", Text(1000)),
            ("body!", LongText),
            ("mail_type", Choice),
        ]),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/mailbox")
            .prepare(async |world, ids| {
                let mail = json!({
                    "from_agent_id": ids.agent, "to_agent_id": ids.other_agent,
                    "subject": "Hello", "body": "Hi",
                });
                let path = format!("{}/mail", world.rig);
                world.server.post(&path, mail).await;
            })
            .answers(200, json!([mail(Value::Null)])),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents/{agent}/nudge")
            .body(|_, _| json!({"message": "How far are you?"}))
            .answers(201, mail(json!("2026-11-22T06:40:10.033Z")))
            .fields(&[("message!", LongText), ("ttl_seconds", Whole)]),
    ]
}
