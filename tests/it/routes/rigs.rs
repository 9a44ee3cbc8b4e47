//! Rigs.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Id, Text};
use crate::support::world::last;

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/users/{user}/rigs")
            .fields(&[
                ("town_id!", Id),
                ("name!", Text(64)),
                ("git_url!", Text(2048)),
                ("default_branch", Text(255)),
                ("platform_integration_id", Text(2048)),
                ("kilocode_token", Text(2048)),
            ])
            .body(|world, ids| {
                json!({
                    "town_id": ids.town, "name": world.fresh(),
                    "git_url": "https://host.invalid/o/r.git",
                })
            })
            .refuses(409, "rig_name_taken", async |world, ids| {
                let rigs = format!("/api/users/u/towns/{}/rigs", last(&world.town));
                let name = world.server.get(&rigs).await[0]["name"].clone();
                json!({"town_id": ids.town, "name": name, "git_url": "https://h.invalid/r"})
            }),
        Case::of("GET", "/api/users/{user}/rigs/{rig}"),
        Case::of("DELETE", "/api/users/{user}/rigs/{rig}").prepare(async |world, ids| {
            ids.go_to(&world.town_with_rig().await.1);
        }),
        Case::of("GET", "/api/users/{user}/towns/{town}/rigs"),
    ]
}
