//! The review queue.

use serde_json::{Value, json};

use super::beads::close;
use super::case::Case;
use super::case::Field::{Choice, Id, LongText, Text};

/// What a merge request looks like.
fn review() -> Value {
    let id = "948d50e0-1d7c-4966-9c0d-986824c22a1d";
    let moment = "2026-11-22T06:30:10.033Z";
    json!({
        "entry_id": id, "bead_id": id, "rig_id": id, "agent_id": id, "branch": "b", "pr_url": null,
        "summary": null, "status": "pending", "attempts": 0, "reworks": 0, "approval": "none",
        "approval_note": null, "head_sha": null, "message": null, "commit_sha": null, "started_at": null,
        "due_at": moment,
    })
}

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/review-queue")
            .fields(&[
                ("agent_id!", Id),
                ("bead_id!", Id),
                ("branch!", Text(2048)),
                ("pr_url", Text(2048)),
                ("summary", LongText),
            ])
            .refuses(409, "bead_in_review", async |world, ids| {
                let review = json!({"agent_id": ids.agent, "bead_id": ids.bead, "branch": "b"});
                let path = format!("{}/review-queue", world.rig);
                world.server.post(&path, review.clone()).await;
                review
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"agent_id": ids.agent, "bead_id": ids.bead, "branch": "b"})
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/review-queue")
            .queries(&["status=bogus", "limit=0"])
            .prepare(async |world, ids| ids.entry = world.entry(&world.rig).await)
            .answers(200, json!([review()])),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/review-queue/{entry}")
            .prepare(async |world, ids| ids.entry = world.entry(&world.rig).await)
            .answers(200, {
                let mut review = review();
                review["gate_output"] = Value::Null;
                review
            }),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/review-queue/{entry}/complete",
        )
        .fields(&[
            ("status!", Choice),
            ("message", LongText),
            ("commit_sha", Text(128)),
            ("head_sha", Text(128)),
        ])
        .prepare(async |world, ids| ids.entry = world.entry(&world.rig).await)
        .refuses(409, "review_finished", async |world, ids| {
            ids.entry = world.ids(&world.rig).await.entry;
            json!({"status": "merged"})
        })
        .refuses(409, "review_elsewhere", async |world, ids| {
            // It is with a polecat, to be mended.
            ids.entry = world.entry(&world.rig).await;
            let path = format!("{}/review-queue/{}/complete", world.rig, ids.entry);
            let word = json!({"status": "conflict", "message": "mend it"});
            world.server.post(&path, word).await;
            json!({"status": "merged"})
        })
        .refuses(409, "review_moved", async |world, ids| {
            ids.entry = world.entry(&world.rig).await;
            let path = format!("{}/review-queue/{}/complete", world.rig, ids.entry);
            let word = json!({"status": "merged", "head_sha": "c0ffee"});
            world.server.post(&path, word).await;
            json!({"status": "merged", "head_sha": "decaf"})
        })
        .refuses(404, "review_not_found", async |_, ids| -> Value {
            // A bead is no merge request.
            ids.entry.clone_from(&ids.bead);
            json!({"status": "merged"})
        }),
    ]
}
