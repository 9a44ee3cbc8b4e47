//! Agents and their hooks.

use serde_json::{Value, json};

use super::beads::close;
use super::case::Case;
use super::case::Field::{Choice, Id, Kept, LongText, Text};
use crate::support::world::{Ids, World};

pub(super) fn rows() -> Vec<Case> {
    let mut rows = vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents")
            .fields(&[
                ("role!", Choice),
                ("name!", Text(64)),
                ("identity!", Text(256)),
            ])
            .refuses(409, "agent_name_taken", async |world, ids| {
                let agent = own(world, ids).await;
                json!({"role": "polecat", "name": agent["name"], "identity": ids.fresh})
            })
            .refuses(409, "identity_taken", async |world, ids| {
                let agent = own(world, ids).await;
                json!({"role": "polecat", "name": ids.fresh, "identity": agent["identity"]})
            })
            .refuses(409, "role_taken", async |world, ids| {
                taken(world, ids, "refinery").await
            })
            .refuses(409, "role_taken", async |world, ids| {
                taken(world, ids, "witness").await
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents")
            .queries(&["role=bogus", "status=bogus"]),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents/get-or-create")
            .fields(&[("role!", Choice)])
            .refuses(409, "too_many_polecats", async |world, ids| {
                let (town, rig) = world.town_with_rig().await;
                ids.go_to(&rig);
                let limit = json!({"max_polecats_per_rig": 1});
                let config = format!("{town}/config");
                world.server.must("PATCH", &config, limit).await;
                let order = json!({"title": "the one"});
                world.server.post(&format!("{rig}/sling"), order).await;
                json!({"role": "polecat"})
            }),
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}").prepare(
            async |world, ids| {
                let path = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/heartbeat");
                world.server.post(&path, Value::Null).await;
            },
        ),
        Case::of("DELETE", "/api/towns/{town}/rigs/{rig}/agents/{agent}").prepare(hooked),
    ];
    rows.extend(hooks());
    rows.extend(words());
    rows
}

fn hooks() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents/{agent}/hook")
            .fields(&[("bead_id!", Id)])
            .refuses(409, "agent_already_hooked", async |world, ids| {
                world.hook(ids).await;
                json!({"bead_id": world.bead(&world.rig, "issue").await})
            })
            .refuses(409, "bead_hooked", async |world, ids| {
                world.hook(ids).await;
                ids.agent.clone_from(&ids.other_agent);
                json!({"bead_id": ids.bead})
            })
            .refuses(409, "bead_terminal", async |world, ids| {
                close(world, ids).await;
                json!({"bead_id": ids.bead})
            })
            .refuses(409, "bead_blocked", async |world, ids| {
                let path = ids.fill("/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies");
                let blocker = json!({"depends_on_bead_id": ids.part});
                world.server.post(&path, blocker).await;
                json!({"bead_id": ids.bead})
            })
            .refuses(409, "bead_in_review", async |world, ids| {
                let review = json!({"agent_id": ids.agent, "bead_id": ids.bead, "branch": "b"});
                let path = format!("{}/review-queue", world.rig);
                world.server.post(&path, review).await;
                json!({"bead_id": ids.bead})
            }),
        Case::of("DELETE", "/api/towns/{town}/rigs/{rig}/agents/{agent}/hook").prepare(hooked),
    ]
}

/// What an agent says of itself.
fn words() -> Vec<Case> {
    vec![
        Case::of("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/prime"),
        Case::of("POST", "/api/towns/{town}/rigs/{rig}/agents/{agent}/done")
            .fields(&[
                ("branch!", Text(2048)),
                ("pr_url", Text(2048)),
                ("summary", LongText),
            ])
            .prepare(hooked)
            .refuses(409, "molecule_unfinished", async |world, ids| {
                super::work::with_steps(world, ids).await;
                json!({"branch": "gt/x"})
            })
            .refuses(409, "hook_empty", async |_, _| json!({"branch": "b"}))
            .refuses(409, "hook_empty", async |world, ids| {
                world.hook(ids).await;
                let done = json!({"branch": "gt/done"});
                let path = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/done");
                world.server.post(&path, done.clone()).await;
                done
            }),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/completed",
        )
        .fields(&[("status!", Choice), ("reason", LongText)])
        .prepare(hooked),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/checkpoint",
        )
        .fields(&[("data!", Kept)]),
        Case::of(
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/heartbeat",
        ),
    ]
}

async fn hooked(world: &World, ids: &mut Ids) {
    world.hook(ids).await;
}

async fn own(world: &World, ids: &Ids) -> Value {
    let path = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}");
    world.server.get(&path).await
}

/// Makes the one agent of a role; a second one.
async fn taken(world: &World, ids: &Ids, role: &str) -> Value {
    let path = format!("{}/agents/get-or-create", world.rig);
    world.server.post(&path, json!({"role": role})).await;
    json!({"role": role, "name": ids.fresh, "identity": ids.fresh})
}
