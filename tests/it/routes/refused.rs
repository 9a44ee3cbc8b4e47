//! What a row says that it refuses is refused with that code, and nothing is done.

use serde_json::Value;

use super::table;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_forbids_is_refused_and_changes_nothing() {
    let world = World::open().await;
    let mut wrong = Vec::new();
    for case in table() {
        for refusal in &case.refusals {
            let mut ids = world.idle_ids(&world.rig).await;
            let body = refusal.body.run(&world, &mut ids).await;
            let town = format!("/api/towns/{}", ids.town);
            let rig = format!("{town}/rigs/{}", ids.rig);
            let before = world.deeds(&town, &rig).await;
            let path = ids.fill(case.path);
            let (status, answer) = world.server.call(case.method, &path, body.clone()).await;
            let name = format!("{} {body}: {status} {answer}", case.name());
            if (status.as_u16(), answer["code"].as_str()) != (refusal.status, Some(refusal.code)) {
                wrong.push(format!("{name}, not {} {}", refusal.status, refusal.code));
            }
            if world.deeds(&town, &rig).await != before {
                wrong.push(format!("{name} has changed something"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Refusals that no single request to a world at rest meets: what shows them instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("agent_not_found", "foreign ids"),
    ("ask_not_found", "foreign ids"),
    ("convoy_not_found", "foreign ids"),
    ("escalation_not_found", "foreign ids"),
    ("molecule_not_found", "foreign ids"),
    ("rig_not_found", "foreign ids"),
    ("town_not_found", "foreign ids"),
    ("idempotency_key_reused", "repeats"),
    (
        "ask_answered",
        "the town's tests of asks: here the agent takes the answer at once",
    ),
    (
        "convoy_full",
        "the town's tests of convoys: it takes a thousand beads",
    ),
    (
        "too_many_dependencies",
        "the town's tests of dependencies: it takes a thousand beads",
    ),
    (
        "review_not_held",
        "the town's walks: only an agent's token can say it",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_description_is_met() {
    let world = World::open().await;
    let (_, document) = world
        .server
        .call("GET", "/api/openapi.json", Value::Null)
        .await;
    let rows = table();
    let met: Vec<&str> = rows
        .iter()
        .flat_map(|case| case.refusals.iter().map(|refusal| refusal.code))
        .chain(ELSEWHERE.iter().map(|(code, _)| *code))
        .collect();
    let mut known = 0;
    for response in document["components"]["responses"]
        .as_object()
        .unwrap()
        .values()
    {
        let code = &response["content"]["application/json"]["schema"]["properties"]["code"];
        for code in code["examples"].as_array().into_iter().flatten() {
            known += 1;
            let code = code.as_str().unwrap();
            assert!(met.contains(&code), "no row is refused with {code}");
        }
    }
    assert!(known > 30, "the description names the codes");
}
