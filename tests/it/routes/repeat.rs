//! Whatever changes something may be sent again under one `Idempotency-Key`: it is done once, and
//! the repeat gets the first answer.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::answers::ready;
use super::case::Case;
use super::table;
use crate::support::server::request;
use crate::support::world::{World, last};

/// A request under a key.
async fn keyed(
    world: &World,
    method: &str,
    path: &str,
    key: &str,
    body: &Value,
) -> (StatusCode, Bytes) {
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let headers = [("idempotency-key", key)];
    request(world.server.address(), method, path, &headers, body).await
}

fn changes() -> impl Iterator<Item = Case> {
    let is_change = |case: &Case| ["POST", "PATCH", "DELETE"].contains(&case.method);
    table()
        .into_iter()
        .filter(move |case| is_change(case) && case.ignores_keys.is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_and_does_nothing() {
    let mut world = World::open().await;
    let mut sent = Vec::new();
    for case in changes() {
        let ids = ready(&world, &case).await;
        let (path, key) = (ids.fill(case.path), world.fresh());
        let body = case.sound_body(&world, &ids);
        let (status, answer) = keyed(&world, case.method, &path, &key, &body).await;
        let name = case.name();
        assert!(status.is_success(), "{name}: {status} {answer:?}");
        let done = world.deeds(&world.town, &world.rig).await;
        let again = keyed(&world, case.method, &path, &key, &body).await;
        assert_eq!(again, (status, answer.clone()), "{name}");
        assert_eq!(world.deeds(&world.town, &world.rig).await, done, "{name}");

        let mut other = body.clone();
        if other.is_null() {
            other = json!({});
        }
        other["something"] = json!("else");
        let (refused, text) = keyed(&world, case.method, &path, &key, &other).await;
        let text: Value = serde_json::from_slice(&text).unwrap();
        let found = (refused.as_u16(), text["code"].as_str());
        assert_eq!(found, (422, Some("idempotency_key_reused")), "{name}");
        assert_eq!(world.deeds(&world.town, &world.rig).await, done, "{name}");
        sent.push((case.method, path, key, body, (status, answer)));
    }
    // Who heard nothing because the server died may ask the next one.
    world.server.kill();
    world.server.restart();
    let before = world.deeds(&world.town, &world.rig).await;
    for (method, path, key, body, first) in sent {
        let again = keyed(&world, method, &path, &key, &body).await;
        assert_eq!(again, first, "{method} {path} after the restart");
    }
    assert_eq!(world.deeds(&world.town, &world.rig).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_judged_again() {
    let world = World::open().await;
    let ids = world.idle_ids(&world.rig).await;
    let done = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/done");
    let body = json!({"branch": "gt/x"});
    let (status, _) = keyed(&world, "POST", &done, "k", &body).await;
    assert_eq!(status, 409, "nothing is on the hook");
    world.hook(&ids).await;
    let (status, _) = keyed(&world, "POST", &done, "k", &body).await;
    assert_eq!(status, 200);
    // Without a key it would be refused again.
    let (status, _) = keyed(&world, "POST", &done, "k", &body).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_answered_when_what_it_was_about_is_gone() {
    let world = World::open().await;
    let (_, rig) = world.town_with_rig().await;
    let agent = world.agent(&rig, "polecat").await;
    let mail = json!({"from_agent_id": "me", "to_agent_id": agent, "subject": "s", "body": "b"});
    let nudge = json!({"message": "Still there?"});
    let requests = [
        (format!("{rig}/mail"), "mail", mail),
        (format!("{rig}/agents/{agent}/nudge"), "nudge", nudge),
    ];
    let mut answers = Vec::new();
    for (path, key, body) in &requests {
        let answer = keyed(&world, "POST", path, key, body).await;
        assert_eq!(answer.0, 201, "{path}: {answer:?}");
        answers.push(answer);
    }
    let path = format!("/api/users/u/rigs/{}", last(&rig));
    world.server.call("DELETE", &path, Value::Null).await;
    for ((path, key, body), first) in requests.iter().zip(answers) {
        let again = keyed(&world, "POST", path, key, body).await;
        assert_eq!(again, first, "{path}");
        let (status, _) = keyed(&world, "POST", path, "other", body).await;
        assert_eq!(status, 404, "{path} of a rig that is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_done() {
    let world = World::open().await;
    let ids = world.idle_ids(&world.rig).await;
    let sling = format!("{}/sling", world.rig);
    let events = format!("{}/agent-events", world.rig);
    let order = json!({"title": "only once"});
    let event = json!({"agent_id": ids.agent, "event_type": "x", "data": 1});
    for (path, body) in [(sling, order), (events, event)] {
        let calls = (0..12).map(|_| keyed(&world, "POST", &path, "same", &body));
        let mut answers = Vec::new();
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        // All are sent before the first answer is looked at.
        std::future::poll_fn(|context| {
            calls.retain_mut(|call| match call.as_mut().poll(context) {
                std::task::Poll::Ready(answer) => {
                    answers.push(answer);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if calls.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        assert_eq!(answers[0].0, 201, "{answers:?}");
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
    }
    let listed = world.server.get(&format!("{}/beads", world.rig)).await;
    let same = listed.as_array().unwrap().iter();
    assert_eq!(same.filter(|bead| bead["title"] == "only once").count(), 1);
    let events = format!("{}/agents/{}/events", world.rig, ids.agent);
    assert_eq!(world.server.get(&events).await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_none_are_400() {
    let world = World::open().await;
    let before = world.snapshot(&world.town, &world.rig).await;
    let body = json!({"title": "t"});
    for key in ["", "a b", "ü", &"k".repeat(256)] {
        let path = format!("{}/sling", world.rig);
        let (status, answer) = keyed(&world, "POST", &path, key, &body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(status, 400, "{key}: {answer}");
        assert_eq!(answer["issues"][0]["path"], json!(["Idempotency-Key"]));
    }
    assert_eq!(world.snapshot(&world.town, &world.rig).await, before);
}
