//! Holding work back, letting it go on, and what it costs.

use serde_json::json;

use super::case::Case;

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/pause").by_hand(async |world, ids| {
            for (path, paused) in [("pause", true), ("resume", false)] {
                let path = ids.fill(&format!("/api/towns/{{town}}/{path}"));
                let answer = world.server.post(&path, json!(null)).await;
                assert_eq!(answer, json!({"paused": paused}));
            }
        }),
        Case::of("POST", "/api/towns/{town}/resume").answers(200, json!({"paused": false})),
        Case::of("POST", "/api/towns/{town}/stop-all").by_hand(async |world, ids| {
            let path = ids.fill("/api/towns/{town}/stop-all");
            let answer = world.server.post(&path, json!(null)).await;
            assert_eq!(answer["paused"], true);
            assert!(answer["stopped"].is_u64());
            let path = ids.fill("/api/towns/{town}/resume");
            world.server.post(&path, json!(null)).await;
        }),
        Case::of("GET", "/api/towns/{town}/usage")
            .queries(&["days=0", "days=367", "days=x"])
            .answers(
                200,
                json!({"days": 30, "total": used(), "today": used(), "by_day": [], "by_agent": [],
                    "by_bead": []}),
            ),
        Case::of("GET", "/api/towns/{town}/reconcile").by_hand(async |world, ids| {
            let path = ids.fill("/api/towns/{town}/reconcile");
            let plan = world.server.get(&format!("{path}?dry_run=1")).await;
            assert!(
                plan["actions"].is_array() && plan["due_at"].is_string(),
                "{plan:#}"
            );
            for query in ["", "?dry_run=0"] {
                let path = format!("{path}{query}");
                let (status, answer) = world.server.call("GET", &path, json!(null)).await;
                assert_eq!(status, 400);
                assert_eq!(answer["issues"][0]["path"], json!(["dry_run"]));
            }
        }),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/pause").by_hand(async |world, ids| {
            for (path, paused) in [("pause", true), ("resume", false)] {
                let path = ids.fill(&format!("/api/towns/{{town}}/rigs/{{rig}}/{path}"));
                let answer = world.server.post(&path, json!(null)).await;
                assert_eq!(answer, json!({"paused": paused}));
            }
        }),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/resume")
            .answers(200, json!({"paused": false})),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/beads/{bead}/retry")
            .prepare(async |world, ids| {
                let status = ids.fill("/api/towns/{town}/rigs/{rig}/beads/{bead}/status");
                let failed = json!({"status": "failed"});
                world.server.must("PATCH", &status, failed).await;
            })
            .answers(200, json!({"status": "open", "title": "A bead"}))
            .refuses(409, "bead_not_failed", async |world, ids| {
                ids.bead = world.bead(&world.rig, "issue").await;
                json!(null)
            }),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents/{agent}/stop")
            .answers(200, json!({"stopped": true, "bead_id": null})),
    ]
}

fn used() -> serde_json::Value {
    let tokens = json!({"total": 0, "input": 0, "output": 0, "reasoning": 0, "cache_read": 0,
        "cache_write": 0});
    json!({"tokens": tokens, "cost": 0.0})
}
