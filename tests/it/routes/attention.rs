//! Asks, tokens, and agents' runs in the container.

use serde_json::{Value, json};

use super::case::Case;
use super::case::Field::{Choice, Id, Labels, LongText, Text};
use crate::support::server::Stream;
use crate::support::world::{Ids, World, last};

const TIME: &str = "2026-01-01T00:00:00.000Z";
const ID: &str = "00000000-0000-4000-8000-000000000000";

pub(super) fn rows() -> Vec<Case> {
    let mut rows = runs();
    rows.extend([
        Case::of("GET", "/api/towns/{town}/asks")
            .prepare(async |world, ids| ask(world, ids).await)
            .queries(&["agent_id=x", "limit=0"])
            .answers(
                200,
                json!([{
                    "id": ID, "agent_id": ID, "agent_name": "mayor", "rig_id": null,
                    "bead_id": null, "kind": "question", "title": "t",
                    "detail": {"questions": [{"question": "q"}]}, "escalation_id": null,
                    "created_at": TIME, "answered_at": null, "last_error": null,
                }]),
            ),
        Case::of("POST", "/api/towns/{town}/asks/{ask}/reply")
            .prepare(async |world, ids| ask(world, ids).await)
            .fields(&[("reply", Choice), ("answers", Labels), ("reject", Labels)])
            .body(|_, _| json!({"answers": [["Red"]]}))
            .answers(
                200,
                json!({"id": ID, "kind": "question", "answered_at": TIME}),
            )
            .refuses(400, "invalid_request", async |world, ids| {
                ask(world, ids).await;
                json!({"reply": "always"})
            }),
        Case::of("POST", "/api/tokens")
            .fields(&[("name!", Text(64)), ("expires_in_days", Labels)])
            .body(|_, _| json!({"name": "ci", "expires_in_days": 7}))
            .answers(
                201,
                json!({
                    "id": ID, "name": "ci", "token": "gt_x", "created_at": TIME,
                    "expires_at": TIME,
                }),
            )
            .refuses(
                400,
                "invalid_request",
                async |_, _| json!({"name": "ci", "expires_in_days": 0}),
            ),
        Case::of("GET", "/api/tokens")
            .prepare(async |world, ids| token(world, ids).await)
            .queries(&["limit=0"])
            .answers(
                200,
                json!([{"id": ID, "name": "ci", "token": "****x", "created_at": TIME}]),
            ),
        Case::of("DELETE", "/api/tokens/{token}")
            .prepare(async |world, ids| token(world, ids).await)
            .answers(200, json!({"revoked": true})),
    ]);
    rows
}

/// Routes of an agent's run.
fn runs() -> Vec<Case> {
    let start = "/api/towns/{town}/container/agents/start";
    let message = "/api/towns/{town}/container/agents/{agent}/message";
    let stream = "/api/towns/{town}/container/agents/{agent}/stream";
    vec![
        Case::of("POST", start)
            .prepare(async |world, ids| rests(world, ids).await)
            .fields(&[("agentId!", Id)])
            .body(|_, ids| json!({"agentId": ids.agent}))
            .answers(202, json!({"agentId": ID, "status": "starting"}))
            .refuses(
                409,
                "hook_empty",
                async |_, ids| json!({"agentId": ids.agent}),
            )
            .refuses(409, "agent_running", async |world, ids| {
                run(world, ids).await;
                json!({"agentId": ids.agent})
            }),
        Case::of("POST", message)
            .prepare(async |world, ids| run(world, ids).await)
            .fields(&[("prompt!", LongText)])
            .body(|_, _| json!({"prompt": "Go on"}))
            .answers(200, json!({"agentId": ID, "sent": true}))
            .refuses(
                409,
                "agent_not_running",
                async |_, _| json!({"prompt": "x"}),
            ),
        Case::of("POST", "/api/towns/{town}/container/agents/{agent}/stop")
            .answers(200, json!({"agentId": ID, "stopped": true})),
        Case::of("GET", "/api/towns/{town}/container/agents/{agent}/status")
            .prepare(async |world, ids| run(world, ids).await)
            .answers(
                200,
                json!({
                    "agentId": ID, "status": "running", "sessionId": null, "startedAt": TIME,
                    "lastActivityAt": TIME, "activeTools": [], "messageCount": 1,
                    "exitReason": null,
                }),
            ),
        Case::of("GET", stream).by_hand(async move |world, ids| {
            let path = ids.fill(stream);
            let mut stream = Stream::connect(world.server.address(), &path, &[]).await;
            let hello = json!({"type": "hello", "townId": ids.town, "protocol": 1});
            assert_eq!(stream.next().await.unwrap(), hello);
            let subscribed = stream.next().await.unwrap();
            assert_eq!(subscribed["agentId"], ids.agent.as_str());
        }),
    ]
}

async fn tell_mayor(world: &World, message: &str) -> String {
    let path = format!("{}/mayor/message", world.town);
    let told = world.server.post(&path, json!({"message": message})).await;
    told["agentId"].as_str().unwrap().to_owned()
}

/// The mayor asks a question; that ask, which nobody has answered.
async fn ask(world: &World, ids: &mut Ids) {
    let asks = format!("{}/asks", world.town);
    let open = |asks: &Value| {
        let asks = asks.as_array().unwrap().iter();
        let mut open = asks.filter(|ask| ask["answered_at"] == Value::Null);
        open.next()
            .map(|ask| ask["id"].as_str().unwrap().to_owned())
    };
    let known = open(&world.server.get(&asks).await);
    ids.ask = match known {
        Some(ask) => ask,
        None => {
            tell_mayor(world, "rehearse: ask question Which? | Red | Blue").await;
            let asks = world
                .server
                .until("the mayor asks", &asks, |asks| open(asks).is_some())
                .await;
            open(&asks).unwrap()
        }
    };
}

/// The mayor runs.
async fn run(world: &World, ids: &mut Ids) {
    ids.agent = tell_mayor(world, "hello").await;
    let health = format!("{}/container/health", world.town);
    let is_up = |health: &Value| health["agents"].as_u64().is_some_and(|agents| agents > 0);
    world.server.until("something runs", &health, is_up).await;
    let status = format!("{}/mayor/status", world.town);
    let runs = |status: &Value| status["session"]["sessionId"] != status["session"]["agentId"];
    world.server.until("the mayor runs", &status, runs).await;
}

/// An agent whose work could not be begun and rests until the next try.
async fn rests(world: &World, ids: &mut Ids) {
    let body = json!({
        "town_id": last(&world.town), "name": world.fresh(), "git_url": "/not/there.git",
    });
    let rig = world.server.post("/api/users/u/rigs", body).await;
    let rig = format!("{}/rigs/{}", world.town, rig["id"].as_str().unwrap());
    let order = json!({"title": "Greet people"});
    let slung = world.server.post(&format!("{rig}/sling"), order).await;
    ids.agent = slung["agent"]["id"].as_str().unwrap().to_owned();
    let path = format!("{rig}/agents/{}", ids.agent);
    let rests = |agent: &Value| agent["status"] == "idle" && agent["last_error"].is_string();
    world.server.until("it rests", &path, rests).await;
}

async fn token(world: &World, ids: &mut Ids) {
    let made = world
        .server
        .post("/api/tokens", json!({"name": "ci"}))
        .await;
    ids.token = made["id"].as_str().unwrap().to_owned();
}
