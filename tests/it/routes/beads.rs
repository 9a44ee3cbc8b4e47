//! Beads.

use serde_json::{Value, json};

use super::case::Case;
use super::case::Field::{Choice, Id, Ids as IdList, Labels, LongText, Object, Text};
use crate::support::world::{Ids, World};

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/beads")
            .fields(&[
                ("type!", Choice),
                ("title!", Text(1000)),
                ("body", LongText),
                ("priority", Choice),
                ("labels", Labels),
                ("metadata", Object),
                ("assignee_agent_id", Id),
                ("parent_bead_id", Id),
                ("created_by", Text(64)),
                ("convoy_id", Id),
                ("depends_on", IdList),
            ])
            .refuses(409, "convoy_landed", async |world, ids| {
                let path = format!("{}/beads/{}", world.rig, ids.part);
                world.server.must("DELETE", &path, Value::Null).await;
                json!({"type": "issue", "title": "late", "convoy_id": ids.convoy})
            })
            .refuses(409, "bead_blocked", async |_, ids| {
                json!({
                    "type": "issue", "title": "t", "depends_on": [ids.dependency],
                    "assignee_agent_id": ids.agent,
                })
            })
            .refuses(
                400,
                "invalid_request",
                async |_, _| json!({"type": "issue", "title": "t", "depends_on": ["x"]}),
            )
            .refuses(409, "agent_already_hooked", async |world, ids| {
                world.hook(ids).await;
                json!({"type": "issue", "title": "t", "assignee_agent_id": ids.agent})
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/beads")
            .prepare(async |world, _| drop(world.bead(&world.rig, "message").await))
            .queries(&[
                "status=bogus",
                "type=bogus",
                "assignee_agent_bead_id=x",
                "limit=0",
                "limit=1001",
                "limit=x",
                "offset=-1",
                "ready=maybe",
                "convoy_id=x",
                "parent_bead_id=x",
            ]),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/beads/{bead}"),
        Case::of("DELETE", "/api/towns/{town}/rigs/{rig}/beads/{bead}"),
        Case::of("PATCH", "/api/towns/{town}/rigs/{rig}/beads/{bead}/status")
            .fields(&[("status!", Choice), ("agent_id", Text(128))])
            .exact(&["/data/status"])
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"status": "in_progress"})
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"status": "failed"})
            })
            .refuses(409, "bead_hooked", async |world, ids| {
                world.hook(ids).await;
                json!({"status": "open"})
            }),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/beads/{bead}/close")
            .fields(&[("agent_id", Text(128))])
            .exact(&["/data/status"]),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/sling")
            .fields(&[
                ("title!", Text(1000)),
                ("body", LongText),
                ("priority", Choice),
                ("metadata", Object),
                ("created_by", Text(64)),
            ])
            .exact(&[
                "/data/bead/status",
                "/data/bead/title",
                "/data/bead/metadata",
                "/data/agent/role",
            ]),
    ]
}

pub(super) async fn close(world: &World, ids: &Ids) {
    let path = ids.fill("/api/towns/{town}/rigs/{rig}/beads/{bead}/close");
    world.server.post(&path, json!({})).await;
}
