//! The mayor and its tools.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Choice, Id, LongText, Object, Text};

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/mayor/configure"),
        Case::of("POST", "/api/towns/{town}/mayor/message").fields(&[("message!", LongText)]),
        Case::of("GET", "/api/towns/{town}/mayor/status").prepare(async |world, _| {
            let path = format!("{}/mayor/message", world.town);
            world.server.post(&path, json!({"message": "hello"})).await;
        }),
        Case::of("POST", "/api/towns/{town}/mayor/completed")
            .prepare(async |world, _| {
                let path = format!("{}/mayor/configure", world.town);
                world.server.post(&path, json!({})).await;
            })
            .fields(&[("status!", Choice), ("reason", LongText)])
            .refuses(404, "mayor_not_found", async |world, ids| {
                ids.go_to(&world.town_with_rig().await.1);
                let path = ids.fill("/api/towns/{town}/mayor/destroy");
                world.server.post(&path, json!(null)).await;
                json!({"status": "completed"})
            }),
        Case::of("POST", "/api/towns/{town}/mayor/destroy"),
        Case::of("GET", "/api/mayor/{town}/tools/rigs"),
        Case::of("GET", "/api/mayor/{town}/tools/rigs/{rig}/beads")
            .prepare(async |world, _| {
                world.entry(&world.rig).await;
            })
            .queries(&["status=bogus", "limit=0"]),
        Case::of("GET", "/api/mayor/{town}/tools/rigs/{rig}/agents").queries(&["role=bogus"]),
        Case::of("POST", "/api/mayor/{town}/tools/sling")
            .fields(&[
                ("rig_id!", Id),
                ("title!", Text(1000)),
                ("body", LongText),
                ("priority", Choice),
                ("metadata", Object),
            ])
            .body(|_, ids| {
                json!({
                    "rig_id": ids.rig, "title": "via mayor", "body": "b", "metadata": {"x": 1},
                })
            })
            .exact(&[
                "/data/bead/status",
                "/data/bead/title",
                "/data/bead/metadata",
            ]),
        Case::of("POST", "/api/mayor/{town}/tools/mail")
            .fields(&[
                ("rig_id!", Id),
                ("from_agent_id", Text(128)),
                ("to_agent_id!", Id),
                ("subject!", Text(1000)),
                ("body!", LongText),
            ])
            .body(|_, ids| {
                json!({
                    "rig_id": ids.rig, "to_agent_id": ids.agent, "from_agent_id": "mayor",
                    "subject": "s", "body": "b",
                })
            }),
    ]
}
