//! Mail.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Id, LongText, Text};

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
        ]),
    ]
}
