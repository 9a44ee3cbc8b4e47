//! Beads that hang together: dependencies, convoys, molecules; and the ledger.

use serde_json::{Value, json};

use super::beads::close;
use super::case::Case;
use super::case::Field::{Choice, Id, LongText, Object, Objects, Text};
use crate::support::world::{Ids, World};

const UUID: &str = "00000000-0000-4000-8000-000000000000";

pub(super) fn rows() -> Vec<Case> {
    [dependencies(), convoys(), molecules(), ledger()]
        .into_iter()
        .flatten()
        .collect()
}

fn dependencies() -> Vec<Case> {
    let path = "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies";
    let one = json!({"type": "blocks", "bead": {"bead_id": UUID, "status": "open"}});
    vec![
        Case::of("GET", path)
            .prepare(dependency)
            .answers(200, json!({"depends_on": [one], "dependents": []})),
        Case::of("POST", path)
            .fields(&[
                ("depends_on_bead_id!", Id),
                ("type", Choice),
                ("created_by", Text(64)),
            ])
            .prepare(async |world, ids| ids.dependency = world.bead(&world.rig, "issue").await)
            .body(|_, ids| json!({"depends_on_bead_id": ids.dependency}))
            .answers(
                201,
                json!({"bead_id": UUID, "depends_on": [UUID], "blocked": true}),
            )
            .refuses(
                409,
                "dependency_cycle",
                async |_, ids| json!({"depends_on_bead_id": ids.bead}),
            )
            .refuses(
                409,
                "dependency_exists",
                async |world, ids| json!({"depends_on_bead_id": world.dependency(ids).await}),
            ),
        Case::of(
            "DELETE",
            "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies/{dependency}",
        )
        .prepare(dependency)
        .answers(200, json!({"deleted": true}))
        .refuses(404, "dependency_not_found", async |world, ids| -> Value {
            ids.dependency = world.bead(&world.rig, "issue").await;
            Value::Null
        }),
    ]
}

fn convoys() -> Vec<Case> {
    let convoy =
        json!({"id": UUID, "title": "C", "status": "active", "total_beads": 1, "closed_beads": 0});
    let mut whole = convoy.clone();
    whole["beads"] = json!([{"bead_id": UUID}]);
    let of_bead =
        |ids: &Ids| json!({"title": "C", "beads": [{"bead_id": ids.bead, "rig_id": ids.rig}]});
    vec![
        Case::of("POST", "/api/towns/{town}/convoys")
            .fields(&[
                ("title!", Text(1000)),
                ("beads!", Objects),
                ("created_by", Text(64)),
            ])
            .body(|_, ids| {
                let bead = json!({"bead_id": ids.bead, "rig_id": ids.rig});
                json!({"title": "C", "beads": [bead], "created_by": "me"})
            })
            .refuses(409, "bead_in_convoy", async move |world, ids| {
                world.convoy(ids).await;
                of_bead(ids)
            })
            .refuses(409, "bead_terminal", async move |world, ids| {
                close(world, ids).await;
                of_bead(ids)
            })
            .refuses(400, "invalid_request", async move |_, ids| {
                let mut twice = of_bead(ids);
                twice["beads"] = json!([twice["beads"][0], twice["beads"][0]]);
                twice
            }),
        Case::of("GET", "/api/towns/{town}/convoys")
            .prepare(convoyed)
            .queries(&["landed=maybe", "limit=0"])
            .answers(200, json!([convoy])),
        Case::of("GET", "/api/towns/{town}/convoys/{convoy}")
            .prepare(convoyed)
            .answers(200, whole),
        Case::of("POST", "/api/towns/{town}/convoys/bead-closed")
            .fields(&[("convoy_id!", Id), ("bead_id!", Id)])
            .prepare(convoyed)
            .body(|_, ids| json!({"convoy_id": ids.convoy, "bead_id": ids.bead})),
    ]
}

fn molecules() -> Vec<Case> {
    let step = json!({"title": "one", "instructions": "i"});
    let formula = json!({"steps": [step, step]});
    let molecule = json!({
        "id": UUID, "bead_id": UUID, "formula": formula, "current_step": 0, "status": "active",
    });
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/molecules")
            .fields(&[("bead_id!", Id), ("formula!", Object)])
            .refuses(409, "molecule_exists", async |world, ids| {
                world.molecule(ids).await;
                let steps = json!([{"title": "one"}]);
                json!({"bead_id": ids.bead, "formula": {"steps": steps}})
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/molecules/{molecule}")
            .prepare(async |world, ids| ids.molecule = world.molecule(ids).await)
            .answers(200, molecule),
        Case::of(
            "GET",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/current",
        )
        .prepare(at_work)
        .answers(
            200,
            json!({
                "moleculeId": UUID, "currentStep": 0, "totalSteps": 2, "step": step,
                "status": "active",
            }),
        ),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance",
        )
        .fields(&[("summary!", LongText)])
        .prepare(at_work)
        .answers(
            200,
            json!({
                "moleculeId": UUID, "previousStep": 0, "currentStep": 1, "totalSteps": 2,
                "completed": false,
            }),
        ),
    ]
}

fn ledger() -> Vec<Case> {
    let queries = ["since=yesterday", "bead_id=7", "limit=0"];
    vec![
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/events")
            .prepare(reopened)
            .queries(&queries),
        Case::of("GET", "/api/users/{user}/towns/{town}/events")
            .prepare(reopened)
            .queries(&queries),
    ]
}

async fn dependency(world: &World, ids: &mut Ids) {
    ids.dependency = world.dependency(ids).await;
}

async fn convoyed(world: &World, ids: &mut Ids) {
    ids.convoy = world.convoy(ids).await;
}

/// The agent works on a bead that has steps.
async fn at_work(world: &World, ids: &mut Ids) {
    ids.molecule = world.molecule(ids).await;
    world.hook(ids).await;
}

/// The bead failed and was opened again, by the agent's name.
async fn reopened(world: &World, ids: &mut Ids) {
    let path = ids.fill("/api/towns/{town}/rigs/{rig}/beads/{bead}/status");
    for status in ["failed", "open"] {
        let change = json!({"status": status, "agent_id": ids.agent});
        world.server.must("PATCH", &path, change).await;
    }
}
