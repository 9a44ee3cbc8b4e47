//! Escalations.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Choice, LongText, Object, Text};

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/escalations").fields(&[
            ("title!", Text(1000)),
            ("body", LongText),
            ("priority", Choice),
            ("metadata", Object),
        ]),
        Case::of("GET", "/api/towns/{town}/escalations")
            .queries(&["acknowledged=maybe", "limit=0"]),
        Case::of(
            "POST",
            "/api/towns/{town}/escalations/{escalation}/acknowledge",
        )
        .by_hand(async |world, ids| {
            let path = ids.fill("/api/towns/{town}/escalations/{escalation}/acknowledge");
            let bead = world.server.post(&path, json!(null)).await;
            assert_eq!(bead["bead_id"], ids.escalation.as_str());
            assert_eq!(bead["acknowledged"], true);
            let list = format!("{}/escalations?acknowledged=", world.town);
            for (wanted, is_in) in [("true", true), ("false", false), ("", true)] {
                let listed = world.server.get(&format!("{list}{wanted}")).await;
                let found = listed.as_array().unwrap().contains(&bead);
                assert_eq!(found, is_in, "{wanted}");
            }
        }),
        Case::of("POST", "/api/towns/{town}/escalations/{escalation}/close").by_hand(
            async |world, ids| {
                let path = ids.fill("/api/towns/{town}/escalations/{escalation}/close");
                // Closed is closed, however often it is said.
                for _ in 0..2 {
                    let bead = world.server.post(&path, json!(null)).await;
                    assert_eq!(bead["bead_id"], ids.escalation.as_str());
                    assert_eq!(bead["status"], "closed");
                }
            },
        ),
    ]
}
