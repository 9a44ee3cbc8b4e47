//! What is not here, or is somebody else's, is 404 and changes nothing.

use serde_json::{Value, json};

use super::case::{Case, Field};
use super::table;
use crate::support::world::{Ids, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_is_404_and_nothing_changes() {
    let world = World::open().await;
    let ids = world.ids(&world.rig).await;
    let (other_town, other_rig) = world.town_with_rig().await;
    let foreign = world.ids(&other_rig).await;
    let before = [
        world.snapshot(&world.town, &world.rig).await,
        world.snapshot(&other_town, &other_rig).await,
    ];
    let mut wrong = Vec::new();
    for case in table()
        .iter()
        .filter(|case| !case.path.starts_with("/mcp/"))
    {
        let body = case.sound_body(&world, &ids);
        let named: Vec<_> = ids
            .all()
            .into_iter()
            .zip(foreign.all())
            .filter(|((name, _), _)| case.path.contains(&format!("{{{name}}}")))
            .collect();
        for ((name, _), (_, foreign)) in &named {
            let random = uuid::Uuid::new_v4().to_string();
            let mut values = vec!["x", "%00", "..%2F..", "%FF", random.as_str(), "1"];
            // A town alone in the path is all that says which town is meant.
            if named.len() > 1 || *name != "town" && *name != "rig" {
                values.push(foreign);
            }
            for value in values {
                let path = ids.fill(&case.path.replace(&format!("{{{name}}}"), value));
                let (status, answer) = world.server.call(case.method, &path, body.clone()).await;
                if status != 404 || answer["success"] != false {
                    wrong.push(format!("{} {path}: {status} {answer:.200}", case.method));
                }
            }
        }
        // A town or rig of somebody else.
        if case.path.starts_with("/api/users/{user}/") && case.path.matches('{').count() > 1 {
            for user in ["somebody", "%00", "a%2Fb", &"x".repeat(129)] {
                let path = ids.fill(&case.path.replace("{user}", user));
                let (status, _) = world.server.call(case.method, &path, body.clone()).await;
                if status != 404 {
                    wrong.push(format!("{} {path}: {status}", case.method));
                }
            }
        }
        wrong.extend(foreign_ids_in_body(&world, case, &ids, &foreign).await);
    }
    wrong.extend(no_such_route(&world, &ids).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let after = [
        world.snapshot(&world.town, &world.rig).await,
        world.snapshot(&other_town, &other_rig).await,
    ];
    assert_eq!(after, before);
}

/// Whatever a body names by its id must be of this rig, and of the right kind.
async fn foreign_ids_in_body(world: &World, case: &Case, ids: &Ids, foreign: &Ids) -> Vec<String> {
    let mut wrong = Vec::new();
    let id_fields = case.fields.iter();
    let id_fields = id_fields.filter(|(_, field)| matches!(field, Field::Id));
    for (name, _) in id_fields {
        let name = name.trim_end_matches('!');
        let random = uuid::Uuid::new_v4().to_string();
        let mut values = vec![&random];
        // Another town of the same user is a town that he may name.
        if name != "town_id" {
            values.extend([&foreign.agent, &foreign.bead, &foreign.entry]);
        }
        for value in values {
            let mut body = case.sound_body(world, ids);
            body[name] = json!(value);
            let path = ids.fill(case.path);
            let (status, answer) = world.server.call(case.method, &path, body.clone()).await;
            if status != 404 {
                wrong.push(format!("{} {body}: {status} {answer}", case.name()));
            }
        }
    }
    wrong
}

async fn no_such_route(world: &World, ids: &Ids) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = table()
        .iter()
        .map(|case| ("PUT", ids.fill(case.path)))
        .collect();
    for path in [
        "/api",
        "/api/",
        "/nowhere",
        "//",
        "/api//towns",
        "/health/",
        "/assets/no.js",
    ] {
        cases.push(("GET", path.to_owned()));
    }
    cases.push(("POST", "/health".to_owned()));
    for (method, path) in cases {
        let (status, answer) = world.server.call(method, &path, Value::Null).await;
        if status != 404 || answer["code"] != "route_not_found" {
            wrong.push(format!("{method} {path}: {status} {answer}"));
        }
    }
    wrong
}
