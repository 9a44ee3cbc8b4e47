//! The wire contract: every recorded exchange is made again against a real server, and the answer
//! has the recorded shape. A route that neither a recording nor a case here covers fails.

use std::collections::BTreeSet;

use gastownd::http::{ROUTES, Route};
use serde_json::{Value, json};

use crate::support::samples::{self, Sample};
use crate::support::server::{Server, Stream, exchange};
use crate::support::world::{Ids, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_in_the_recorded_shape() {
    let world = World::open().await;
    let nullable = nullable();
    let mut wrong = Vec::new();
    for route in ROUTES {
        let mut recorded = samples::all()
            .into_iter()
            .filter(|sample| sample.method == route.method.as_str() && sample.path == route.path)
            .peekable();
        if recorded.peek().is_none() {
            beyond_the_recordings(&world, route).await;
        }
        for sample in recorded {
            let ids = prepare(&world, route).await;
            let body = samples::with_ids(sample.request.clone(), &ids);
            let path = ids.fill(route.path) + &sample.query;
            let (status, answer) = world.server.call(&sample.method, &path, body).await;
            if status.as_u16() != sample.status {
                wrong.push(format!("{route:?}: {status}, not {}", sample.status));
            }
            let mut differences = Vec::new();
            compare(
                &sample.response,
                &answer,
                &nullable,
                "answer",
                &mut differences,
            );
            wrong.extend(exact(&sample, &answer));
            wrong.extend(differences.iter().map(|text| format!("{route:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the recording presupposes.
async fn prepare(world: &World, route: &Route) -> Ids {
    let mut ids = world.idle_ids(&world.rig).await;
    match (route.method.as_str(), route.path) {
        ("DELETE", "/api/users/{user}/towns/{town}" | "/api/users/{user}/rigs/{rig}") => {
            let (_, rig) = world.town_with_rig().await;
            let mut parts = rig.split('/').skip(3);
            ids.town = parts.next().unwrap().to_owned();
            ids.rig = parts.nth(1).unwrap().to_owned();
        }
        ("GET", "/api/towns/{town}/config") => {
            let env = json!({"FOO": "bar", "API_KEY": "secret123456", "MY_TOKEN": "abc"});
            let patch = json!({"env_vars": env, "default_model": "p/m1", "git_auth": {}});
            let path = format!("{}/config", world.town);
            world.server.must("PATCH", &path, patch).await;
        }
        ("GET", "/api/towns/{town}/mayor/status") => {
            let path = format!("{}/mayor/message", world.town);
            world.server.post(&path, json!({"message": "hello"})).await;
        }
        ("GET", "/api/towns/{town}/rigs/{rig}/beads") => {
            world.bead(&world.rig, "message").await;
        }
        ("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}") => {
            let path = ids.fill(route.path) + "/heartbeat";
            world.server.post(&path, Value::Null).await;
        }
        ("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/events") => {
            let event = json!({"agent_id": ids.agent, "event_type": "x", "data": {"g": 1}});
            let path = format!("{}/agent-events", world.rig);
            world.server.post(&path, event).await;
        }
        ("GET", "/api/towns/{town}/rigs/{rig}/agents/{agent}/mail") => {
            for subject in ["Hello", "Hello2"] {
                let mail = json!({
                    "from_agent_id": ids.other_agent, "to_agent_id": ids.agent,
                    "subject": subject, "body": "Hi",
                });
                world
                    .server
                    .post(&format!("{}/mail", world.rig), mail)
                    .await;
            }
        }
        ("POST", "/api/towns/{town}/rigs/{rig}/review-queue/{entry}/complete") => {
            ids.entry = world.entry(&world.rig).await;
        }
        (
            "DELETE",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/hook"
            | "/api/towns/{town}/rigs/{rig}/agents/{agent}",
        )
        | (
            "POST",
            "/api/towns/{town}/rigs/{rig}/agents/{agent}/done"
            | "/api/towns/{town}/rigs/{rig}/agents/{agent}/completed",
        ) => world.hook(&ids).await,
        _ => {}
    }
    ids
}

/// Where the recorded values themselves are the contract.
fn exact(sample: &Sample, answer: &Value) -> Vec<String> {
    let pointers: &[&str] = match sample.path.as_str() {
        "/health" => &[""],
        "/api/towns/{town}/config" => &["/data/env_vars"],
        path if path.ends_with("/sling") => &[
            "/data/bead/status",
            "/data/bead/title",
            "/data/bead/metadata",
            "/data/agent/role",
        ],
        path if path.ends_with("/close") || path.ends_with("/status") => &["/data/status"],
        _ => &[],
    };
    let differs = |pointer: &&&str| sample.response.pointer(pointer) != answer.pointer(pointer);
    pointers
        .iter()
        .filter(differs)
        .map(|pointer| format!("{}: {pointer} differs in {answer}", sample.path))
        .collect()
}

/// Names of fields that are null in some recording, and so may be.
fn nullable() -> BTreeSet<String> {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if value.is_null() {
                        names.insert(name.clone());
                    }
                    collect(value, names);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for sample in samples::all() {
        collect(&sample.response, &mut names);
    }
    names
}

/// What of `expected` is not in `found`; more may be there.
fn compare(
    expected: &Value,
    found: &Value,
    nullable: &BTreeSet<String>,
    at: &str,
    differences: &mut Vec<String>,
) {
    let name = at.rsplit(['.', '[']).next().unwrap_or(at);
    match (expected, found) {
        (Value::Null, _) => {}
        (_, Value::Null) if nullable.contains(name) => {}
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                match found.get(name) {
                    Some(other) => {
                        compare(value, other, nullable, &format!("{at}.{name}"), differences);
                    }
                    None => differences.push(format!("{at}.{name} is missing")),
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if let Some(one) = expected.first() {
                if found.is_empty() {
                    differences.push(format!("{at} is empty"));
                }
                for (index, other) in found.iter().enumerate() {
                    compare(one, other, nullable, &format!("{at}[{index}"), differences);
                }
            }
        }
        (Value::String(expected), Value::String(found)) => {
            for (kind, is) in [("a time", is_time as fn(&str) -> bool), ("a UUID", is_uuid)] {
                if is(expected) && !is(found) {
                    differences.push(format!("{at} is {found:?}, not {kind}"));
                }
            }
        }
        (Value::Bool(_), Value::Bool(_)) => {}
        (Value::Number(expected), Value::Number(found)) if expected.is_u64() == found.is_u64() => {}
        _ => differences.push(format!("{at} is {found}, recorded was {expected}")),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::parse_str(text).is_ok()
}

/// RFC 3339 with milliseconds and `Z`.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00.000Z";
    let fits = |(a, b): (char, char)| if b == '0' { a.is_ascii_digit() } else { a == b };
    text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
}

/// Routes that the recorded system did not have.
async fn beyond_the_recordings(world: &World, route: &Route) {
    let server = &world.server;
    let ids = world.idle_ids(&world.rig).await;
    let path = ids.fill(route.path);
    let token = std::fs::read_to_string(server.data.path().join("admin.token")).unwrap();
    match (route.method.as_str(), route.path) {
        ("GET", "/ready") => assert_eq!(server.get(&path).await, json!({"ready": true})),
        ("GET", "/" | "/assets/{*path}") => {
            let (status, headers, body) =
                exchange(server.address(), "GET", &path, &[], vec![]).await;
            assert_eq!(status, 200, "{path}");
            assert!(!body.is_empty() && headers.contains_key("content-security-policy"));
        }
        ("POST", "/api/session") => {
            let body = json!({"token": token.trim()}).to_string().into_bytes();
            let (status, headers, _) = exchange(server.address(), "POST", &path, &[], body).await;
            assert_eq!(status, 201);
            assert!(headers.contains_key("set-cookie"));
        }
        ("DELETE", "/api/session") => {
            let data = server.must("DELETE", &path, Value::Null).await;
            assert_eq!(data, json!({"loggedIn": false}));
        }
        ("GET", "/api/towns") => {
            let all = server.get(&path).await;
            assert_eq!(all, server.get("/api/users/u/towns").await);
        }
        ("GET", "/api/towns/{town}/ws") => {
            let mut stream = Stream::connect(server.address(), &path, &[]).await;
            let hello = json!({"type": "hello", "townId": ids.town, "protocol": 1});
            assert_eq!(stream.next().await.unwrap(), hello);
        }
        ("GET", "/api/towns/{town}/container/health") => {
            assert!(server.get(&path).await["status"].is_string());
        }
        ("POST", "/api/towns/{town}/escalations/{escalation}/acknowledge") => {
            let bead = server.post(&path, Value::Null).await;
            assert_eq!(bead["bead_id"], ids.escalation.as_str());
            assert_eq!(bead["acknowledged"], true);
            let list = format!("{}/escalations?acknowledged=", world.town);
            for (wanted, is_in) in [("true", true), ("false", false), ("", true)] {
                let listed = server.get(&format!("{list}{wanted}")).await;
                let found = listed.as_array().unwrap().contains(&bead);
                assert_eq!(found, is_in, "{wanted}");
            }
        }
        ("POST", "/api/towns/{town}/rigs/{rig}/agent-events/batch") => {
            let event = json!({"agent_id": ids.agent, "event_type": "x", "data": 1});
            let appended = server.post(&path, json!({"events": [event, event]})).await;
            let expected = json!({"appended": 2, "first_id": 1, "last_id": 2});
            assert_eq!(appended, expected);
        }
        (_, path) if crate::scheduler::is_ours(path) => {
            crate::scheduler::expect_shape(world, route, &ids).await;
        }
        (method, "/mcp/{agent}") => {
            let bearer = format!("Bearer {}", agent_token(server, &ids));
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
                ("accept", "application/json, text/event-stream"),
            ];
            let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
            let body = list.to_string().into_bytes();
            let (status, _, body) = exchange(server.address(), method, &path, &headers, body).await;
            assert_eq!(status, if method == "POST" { 200 } else { 405 }, "{method}");
            if method == "POST" {
                let text = String::from_utf8_lossy(&body);
                assert!(text.contains("\"prime\""), "{text}");
            }
        }
        _ => panic!("{route:?} has no recording and no case here"),
    }
}

/// The token that an agent's tools send.
pub(crate) fn agent_token(server: &Server, ids: &Ids) -> String {
    use gastownd::model::{Agent, AgentRole, AgentStatus, Dispatch, Timestamp};
    let authority = gastownd::http::auth::Authority::load(server.data.path(), false).unwrap();
    let agent = Agent {
        agent_id: ids.agent.parse().unwrap(),
        seq: 0,
        rig_id: Some(ids.rig.parse().unwrap()),
        role: AgentRole::Polecat,
        name: String::new(),
        identity: String::new(),
        status: AgentStatus::Idle,
        hook: None,
        dispatch: Dispatch::default(),
        last_activity_at: None,
        checkpoint: None,
        created_at: Timestamp::default(),
    };
    authority.agent_token(ids.town.parse().unwrap(), &agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_we_differ_on_purpose() {
    let world = World::open().await;
    let (server, rig) = (&world.server, &world.rig);
    let ids = world.idle_ids(rig).await;

    let bead = server.get(&format!("{rig}/beads/{}", ids.bead)).await;
    assert_eq!(bead["bead_id"], bead["id"]);

    // A patch changes what it names, and a masked secret that comes back is left alone.
    let config = format!("{}/config", world.town);
    let secrets = json!({
        "kilocode_token": "kilo-secret-9876", "env_vars": {"API_KEY": "key-secret-5432", "PLAIN": "x"},
        "git_auth": {"github_token": "ghp-secret-1098"},
        "providers": {"p": {"options": {"apiKey": "provider-secret-7654"}}},
    });
    let masked = server.must("PATCH", &config, secrets).await;
    assert!(!masked.to_string().contains("secret"), "{masked}");
    assert_eq!(masked["env_vars"]["API_KEY"], "****5432");
    assert_eq!(masked["env_vars"]["PLAIN"], "x");
    assert_eq!(server.must("PATCH", &config, masked.clone()).await, masked);
    let named = server
        .must("PATCH", &config, json!({"default_model": "p/m"}))
        .await;
    assert_eq!(named["kilocode_token"], masked["kilocode_token"]);
    assert_eq!(named["default_model"], "p/m");

    // Any JSON is an event's data and comes back to the letter.
    let texts = [
        "null",
        "1.50",
        "\"x\"",
        "[]",
        "true",
        "{\"n\":12345678901234567890123}",
    ];
    for data in texts {
        let body = format!(
            r#"{{"agent_id":"{}","event_type":"x","data":{data}}}"#,
            ids.agent
        );
        let path = format!("{rig}/agent-events");
        let (status, _, _) =
            exchange(server.address(), "POST", &path, &[], body.into_bytes()).await;
        assert_eq!(status, 201, "{data}");
    }
    let path = format!("{rig}/agents/{}/events", ids.agent);
    let (_, _, body) = exchange(server.address(), "GET", &path, &[], vec![]).await;
    let text = String::from_utf8_lossy(&body);
    for data in texts {
        assert!(text.contains(&format!("\"data\":{data}")), "{data}: {text}");
    }
    server
        .must(
            "DELETE",
            &format!("{rig}/agents/{}", ids.agent),
            Value::Null,
        )
        .await;
    let (status, answer) = server.call("GET", &path, Value::Null).await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (404, &"agent_not_found".into())
    );

    // What can be a repository here.
    let urls = [
        ("git@host.invalid:owner/repo.git", 201),
        ("ssh://git@host.invalid/owner/repo.git", 201),
        ("https://host.invalid/owner/repo.git", 201),
        ("javascript:alert(1)", 400),
        ("ftp://host.invalid/r", 400),
        ("--upload-pack=touch /tmp/x", 400),
        ("ext::sh -c true", 400),
        ("relative/path", 400),
        ("", 400),
    ];
    for (url, expected) in urls {
        let body = json!({"town_id": ids.town, "name": world.fresh(), "git_url": url});
        let (status, answer) = server.call("POST", "/api/users/u/rigs", body).await;
        assert_eq!(status, expected, "{url}: {answer}");
        if expected == 400 {
            assert_eq!(answer["issues"][0]["path"], json!(["git_url"]), "{url}");
        }
    }

    // A sling keeps its priority, and mail that was handed over says so.
    let order = json!({"title": "t", "priority": "critical"});
    let slung = server.post(&format!("{rig}/sling"), order).await;
    assert_eq!(slung["bead"]["priority"], "critical");
    let body = json!({"from_agent_id": "user", "to_agent_id": ids.other_agent, "subject": "s", "body": "b"});
    server.post(&format!("{rig}/mail"), body).await;
    let check = format!("{rig}/agents/{}/mail", ids.other_agent);
    let mails = server.get(&check).await;
    assert_eq!(mails[0]["delivered"], true);
    assert!(mails[0]["delivered_at"].is_string());
    assert_eq!(server.get(&check).await, json!([]));

    // A merge request stands in the rig's list with its branch.
    let entry = world.entry(rig).await;
    let listed = server.get(&format!("{rig}/beads?type=merge_request")).await;
    assert_eq!(listed[0]["bead_id"], entry.as_str());
    assert_eq!(listed[0]["metadata"]["branch"], "gt/x");
    assert!(listed[0]["metadata"].get("pr_url").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_newest_first_and_in_pages() {
    let world = World::open().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.bead(&world.rig, "issue").await);
    }
    made.reverse();
    let mut listed = Vec::new();
    for offset in [0, 3, 6, 9] {
        let path = format!("{}/beads?limit=3&offset={offset}", world.rig);
        let page = world.server.get(&path).await;
        let ids = page.as_array().unwrap().iter();
        listed.extend(ids.map(|bead| bead["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(listed, made);
    let ids = world.idle_ids(&world.rig).await;
    let events = format!("{}/agents/{}/events", world.rig, ids.agent);
    for n in 1..=5 {
        let body = json!({"agent_id": ids.agent, "event_type": "n", "data": n});
        let path = format!("{}/agent-events", world.rig);
        assert_eq!(world.server.post(&path, body).await["id"], n);
    }
    let page = world
        .server
        .get(&format!("{events}?after_id=2&limit=2"))
        .await;
    assert_eq!((&page[0]["id"], &page[1]["data"]), (&json!(3), &json!(4)));
    assert_eq!(page.as_array().unwrap().len(), 2);
}
