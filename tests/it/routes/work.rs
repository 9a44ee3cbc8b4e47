//! How beads hang together: dependencies, convoys, molecules; and the ledger of what happened.

use serde_json::{Value, json};

use super::beads::close;
use super::case::Case;
use super::case::Field::{Choice, Id, LongText, Object, Objects, Text};
use crate::support::world::{Ids, World};

pub(super) fn rows() -> Vec<Case> {
    let mut rows = dependencies();
    rows.extend(convoys());
    rows.extend(molecules());
    rows.extend(ledger());
    rows
}

fn dependencies() -> Vec<Case> {
    let of_bead = "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies";
    let one = "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies/{dependency}";
    vec![
        Case::of("GET", of_bead)
            .answers(200, json!({"depends_on": [{"type": "tracks", "bead": {}}]})),
        Case::of("POST", of_bead)
            .fields(&[
                ("depends_on_bead_id!", Id),
                ("type", Choice),
                ("created_by", Text(64)),
            ])
            .body(|_, ids| json!({"depends_on_bead_id": ids.part}))
            .answers(
                201,
                json!({"bead_id": "", "depends_on": [""], "blocked": true}),
            )
            .refuses(
                409,
                "dependency_exists",
                async |_, ids| json!({"depends_on_bead_id": ids.dependency}),
            )
            .refuses(
                409,
                "dependency_cycle",
                async |_, ids| json!({"depends_on_bead_id": ids.bead}),
            )
            .refuses(409, "dependency_cycle", async |_, ids| {
                std::mem::swap(&mut ids.bead, &mut ids.dependency);
                json!({"depends_on_bead_id": ids.dependency})
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"depends_on_bead_id": ids.part})
            }),
        Case::of("DELETE", one)
            .answers(200, json!({"deleted": true}))
            .exact(&["/data"])
            .refuses(404, "dependency_not_found", async |_, ids| {
                ids.dependency.clone_from(&ids.part);
                Value::Null
            }),
    ]
}

fn member(ids: &Ids, bead: &str) -> Value {
    json!({"bead_id": bead, "rig_id": ids.rig})
}

fn convoy_of(beads: Vec<Value>) -> Value {
    json!({"title": "C", "created_by": "me", "beads": beads})
}

fn convoys() -> Vec<Case> {
    let convoy = json!({
        "id": "", "title": "", "status": "", "total_beads": 1, "closed_beads": 0, "failed_beads": 0,
    });
    let mut whole = convoy.clone();
    whole["beads"] = json!([{"bead_id": ""}]);
    vec![
        Case::of("POST", "/api/towns/{town}/convoys")
            .fields(&[
                ("title!", Text(1000)),
                ("beads!", Objects),
                ("created_by", Text(64)),
            ])
            .body(|_, ids| convoy_of(vec![member(ids, &ids.bead), member(ids, &ids.dependency)]))
            .refuses(409, "bead_in_convoy", async |_, ids| {
                convoy_of(vec![member(ids, &ids.part)])
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                convoy_of(vec![member(ids, &ids.bead)])
            })
            .refuses(400, "invalid_request", async |_, ids| {
                convoy_of(vec![member(ids, &ids.bead), member(ids, &ids.bead)])
            })
            .refuses(404, "bead_not_found", async |world, ids| {
                let (_, other) = world.town_with_rig().await;
                let bead = world.bead(&other, "issue").await;
                convoy_of(vec![member(ids, &ids.bead), member(ids, &bead)])
            }),
        Case::of("GET", "/api/towns/{town}/convoys")
            .answers(200, json!([convoy]))
            .queries(&["landed=maybe", "limit=0", "offset=-1"]),
        Case::of("GET", "/api/towns/{town}/convoys/{convoy}").answers(200, whole),
        Case::of("POST", "/api/towns/{town}/convoys/bead-closed")
            .fields(&[("convoy_id!", Id), ("bead_id!", Id)])
            .body(|_, ids| json!({"convoy_id": ids.convoy, "bead_id": ids.part})),
    ]
}

fn molecules() -> Vec<Case> {
    let step = json!({
        "moleculeId": "", "currentStep": 0, "totalSteps": 2, "status": "active",
        "step": {"title": "", "instructions": ""},
    });
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/molecules")
            .fields(&[("bead_id!", Id), ("formula!", Object)])
            .refuses(409, "molecule_exists", async |_, ids| {
                json!({"bead_id": ids.part, "formula": {"steps": [{"title": "again"}]}})
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"bead_id": ids.bead, "formula": {"steps": [{"title": "late"}]}})
            })
            .refuses(400, "invalid_request", async |_, ids| {
                json!({"bead_id": ids.bead, "formula": {"steps": []}})
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/molecules/{molecule}").answers(
            200,
            json!({"id": "", "bead_id": "", "formula": {"steps": [{}]}, "current_step": 0}),
        ),
        Case::of(
            "GET",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/current",
        )
        .prepare(with_steps)
        .answers(200, step),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance",
        )
        .fields(&[("summary!", LongText)])
        .refuses(409, "molecule_finished", async |world, ids| {
            with_steps(world, ids).await;
            let path =
                ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance");
            for _ in 0..2 {
                world.server.post(&path, json!({"summary": "s"})).await;
            }
            json!({"summary": "one more"})
        }),
    ]
}

/// Puts the bead with steps on the agent's hook.
pub(super) async fn with_steps(world: &World, ids: &mut Ids) {
    let path = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/hook");
    world.server.post(&path, json!({"bead_id": ids.part})).await;
}

fn ledger() -> Vec<Case> {
    let queries = ["since=yesterday", "bead_id=x", "limit=0", "limit=1001"];
    let mut of_rig = Case::of("GET", "/api/towns/{town}/rigs/{rig}/events").queries(&queries);
    for sample in &mut of_rig.samples {
        // It names a bead of the recorded system.
        sample.query.clear();
    }
    vec![
        of_rig,
        // In a town of its own, where nobody gave himself a name.
        Case::of("GET", "/api/users/{user}/towns/{town}/events")
            .prepare(async |world, ids| {
                let (_, rig) = world.town_with_rig().await;
                *ids = world.idle_ids(&rig).await;
            })
            .queries(&queries),
    ]
}
