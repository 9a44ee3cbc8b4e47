//! Wrong bodies and queries are 400 and name the field, what is too large is 413, and nothing
//! changes.

use serde_json::{Value, json};

use super::case::Field;
use super::table;
use crate::support::server::request;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_400_and_name_the_field() {
    let world = World::open().await;
    let ids = world.ids(&world.rig).await;
    let before = world.snapshot(&world.town, &world.rig).await;
    for case in table().iter().filter(|case| !case.fields.is_empty()) {
        let (method, path) = (case.method, ids.fill(case.path));
        let needs_something = case.fields.iter().any(|(name, _)| name.ends_with('!'));
        for body in [
            "{",
            "[]",
            "\"x\"",
            "7",
            "null",
            "{}{}",
            "{\"a\":}",
            "\u{0}",
            "{\"a\":\"\\ud800\"}",
        ] {
            // A field that is not asked for may hold what it likes.
            if body.contains("ud800") && !needs_something {
                continue;
            }
            let (status, answer) =
                request(world.server.address(), method, &path, &[], body.into()).await;
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let case = format!("{method} {path} {body}: {status} {answer}");
            assert_eq!(status, 400, "{case}");
            assert_eq!(answer["code"], "invalid_request", "{case}");
            assert!(answer["issues"][0]["message"].is_string(), "{case}");
        }
        for (name, field) in &case.fields {
            let (name, mut wrong) = match name.strip_suffix('!') {
                Some(name) if matches!(field, Field::Kept) => (name, field.wrong()),
                Some(name) => (name, [vec![Value::Null], field.wrong()].concat()),
                None => (*name, field.wrong()),
            };
            if name == "agent_server" {
                wrong.push(json!("claude"));
            }
            for value in wrong {
                let (status, answer) = world.server.call(method, &path, json!({name: value})).await;
                let case = format!("{method} {path} {name}={value:.60}: {status} {answer:.300}");
                assert_eq!(status, 400, "{case}");
                let issues = answer["issues"].as_array().unwrap();
                let names = |issue: &Value| issue["path"][0] == name;
                assert!(issues.iter().any(names), "{case}");
                assert_eq!(answer["success"], false, "{case}");
            }
        }
    }
    for case in table() {
        for query in &case.queries {
            let path = format!("{}?{query}", ids.fill(case.path));
            let (status, answer) = world.server.call(case.method, &path, Value::Null).await;
            assert_eq!(status, 400, "{path}: {answer}");
            let name = query.split_once('=').unwrap().0;
            assert_eq!(answer["issues"][0]["path"], json!([name]), "{path}");
        }
    }
    assert_eq!(world.snapshot(&world.town, &world.rig).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_413_and_nothing_is_stored() {
    let world = World::open().await;
    let ids = world.ids(&world.rig).await;
    let before = world.snapshot(&world.town, &world.rig).await;
    for case in table() {
        // The tools take only an agent's word.
        if !["POST", "PATCH"].contains(&case.method) || case.path.starts_with("/mcp/") {
            continue;
        }
        for bytes in [(1 << 20) + 1, 5 << 20] {
            let mut body = case.sound_body(&world, &ids).to_string().into_bytes();
            body.resize(bytes, b' ');
            let path = ids.fill(case.path);
            let (status, answer) =
                request(world.server.address(), case.method, &path, &[], body).await;
            assert_eq!(status, 413, "{}", case.name());
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["code"], "body_too_large");
        }
    }
    assert_eq!(world.snapshot(&world.town, &world.rig).await, before);
}
