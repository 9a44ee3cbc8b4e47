//! Agents' events.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Any, Id, Objects, Text};

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/events")
            .prepare(async |world, ids| {
                let event = json!({"agent_id": ids.agent, "event_type": "x", "data": {"g": 1}});
                let path = format!("{}/agent-events", world.rig);
                world.server.post(&path, event).await;
            })
            .queries(&["after_id=x", "limit=1001", "limit=0"]),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agent-events").fields(&[
            ("agent_id!", Id),
            ("event_type!", Text(256)),
            ("data", Any),
        ]),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agent-events/batch")
            .fields(&[("events!", Objects)])
            .body(|_, ids| {
                let event = json!({"agent_id": ids.agent, "event_type": "x", "data": 1});
                json!({"events": [event, event]})
            })
            .answers(201, json!({"appended": 2, "first_id": 1, "last_id": 2}))
            .exact(&["/data"])
            .refuses(404, "agent_not_found", async |world, _| {
                let rig = world.town_with_rig().await.1;
                let agent = world.agent(&rig, "polecat").await;
                json!({"events": [{"agent_id": agent, "event_type": "x"}]})
            })
            .refuses(400, "invalid_request", async |_, ids| {
                let event = |agent: &str| json!({"agent_id": agent, "event_type": "x"});
                json!({"events": [event(&ids.agent), event(&ids.other_agent)]})
            }),
    ]
}
