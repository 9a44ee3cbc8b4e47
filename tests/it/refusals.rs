//! Whatever a client sends wrongly is refused with a 4xx that says why, and changes nothing.

use gastownd::http::{ROUTES, Route};
use serde_json::{Value, json};

use crate::support::samples;
use crate::support::server::request;
use crate::support::world::{Ids, World, last};

/// What a field of a body holds.
pub(crate) enum Field {
    /// Text of at most so many characters.
    Text(usize),
    /// Text that may be as long as a body.
    LongText,
    Choice,
    Id,
    Object,
    Labels,
    Objects,
    /// JSON that is kept in a row.
    Kept,
}

impl Field {
    /// Values that it does not take.
    fn wrong(&self) -> Vec<Value> {
        let deep = serde_json::from_str(&format!("{}{}", "[".repeat(101), "]".repeat(101)));
        match self {
            Self::Text(chars_max) => {
                vec![
                    json!(7),
                    json!([]),
                    json!({}),
                    "x".repeat(chars_max + 1).into(),
                ]
            }
            Self::LongText => vec![json!(7), json!(["x"]), json!(true)],
            Self::Choice => vec![json!("bogus"), json!(""), json!(7), json!({})],
            Self::Id => vec![json!("x"), json!(""), json!(7), json!("../..")],
            Self::Object => vec![
                json!([]),
                json!(7),
                json!("{}"),
                json!({"deep": deep.unwrap()}),
            ],
            Self::Labels => vec![
                json!("x"),
                json!([7]),
                json!([""]),
                json!(["x".repeat(65)]),
                json!(vec!["x"; 101]),
            ],
            Self::Objects => vec![json!("x"), json!({}), json!([7]), json!([]), json!([{}])],
            Self::Kept => vec![deep.unwrap()],
        }
    }
}

/// The fields of every body; those with `!` must be there.
pub(crate) fn fields(route: &Route) -> Vec<(&'static str, Field)> {
    use Field::{Choice, Id, Kept, Labels, LongText, Object, Objects, Text};
    let rig_part = route.path.strip_prefix("/api/towns/{town}/rigs/{rig}");
    match (route.method.as_str(), rig_part.unwrap_or(route.path)) {
        ("POST", "/api/session") => vec![("token!", Text(2048))],
        ("POST", "/api/users/{user}/towns") => vec![("name!", Text(64))],
        ("POST", "/api/users/{user}/rigs") => vec![
            ("town_id!", Id),
            ("name!", Text(64)),
            ("git_url!", Text(2048)),
            ("default_branch", Text(255)),
            ("platform_integration_id", Text(2048)),
            ("kilocode_token", Text(2048)),
        ],
        ("POST", "/api/towns/{town}/mayor/message") => vec![("message!", LongText)],
        ("PATCH", "/api/towns/{town}/config") => vec![
            ("default_model", Text(1024)),
            ("kilocode_token", Text(1024)),
            ("agent_server", Choice),
            ("env_vars", Labels),
            ("max_polecats_per_rig", Labels),
            ("git_auth", Labels),
            ("providers", Labels),
            ("refinery", Labels),
            ("alarm_interval_active", Labels),
        ],
        ("POST", "/beads") => vec![
            ("type!", Choice),
            ("title!", Text(1000)),
            ("body", LongText),
            ("priority", Choice),
            ("labels", Labels),
            ("metadata", Object),
            ("assignee_agent_id", Id),
            ("parent_bead_id", Id),
            ("created_by", Text(64)),
        ],
        ("PATCH", "/beads/{bead}/status") => vec![("status!", Choice), ("agent_id", Text(128))],
        ("POST", "/beads/{bead}/close") => vec![("agent_id", Text(128))],
        ("POST", "/sling") => vec![
            ("title!", Text(1000)),
            ("body", LongText),
            ("priority", Choice),
            ("metadata", Object),
        ],
        ("POST", "/agents") => vec![
            ("role!", Choice),
            ("name!", Text(64)),
            ("identity!", Text(256)),
        ],
        ("POST", "/agents/get-or-create") => vec![("role!", Choice)],
        ("POST", "/agents/{agent}/hook") => vec![("bead_id!", Id)],
        ("POST", "/agents/{agent}/done") => vec![
            ("branch!", Text(2048)),
            ("pr_url", Text(2048)),
            ("summary", LongText),
        ],
        ("POST", "/agents/{agent}/completed") => vec![("status!", Choice), ("reason", LongText)],
        ("POST", "/agents/{agent}/checkpoint") => vec![("data!", Kept)],
        ("POST", "/mail") => vec![
            ("from_agent_id!", Text(128)),
            ("to_agent_id!", Id),
            ("subject!", Text(1000)),
            ("body!", LongText),
        ],
        ("POST", "/agent-events") => vec![("agent_id!", Id), ("event_type!", Text(256))],
        ("POST", "/agent-events/batch") => vec![("events!", Objects)],
        ("POST", "/review-queue") => vec![
            ("agent_id!", Id),
            ("bead_id!", Id),
            ("branch!", Text(2048)),
            ("pr_url", Text(2048)),
            ("summary", LongText),
        ],
        ("POST", "/review-queue/{entry}/complete") => vec![
            ("status!", Choice),
            ("message", LongText),
            ("commit_sha", Text(128)),
        ],
        ("POST", "/escalations") => vec![
            ("title!", Text(1000)),
            ("body", LongText),
            ("priority", Choice),
            ("metadata", Object),
        ],
        // Without a body, or not ours to read.
        ("POST", path)
            if path.ends_with("/heartbeat")
                || path.ends_with("/acknowledge")
                || crate::scheduler::TAKES_NO_BODY
                    .iter()
                    .any(|end| path.ends_with(end))
                || path.starts_with("/mcp/") =>
        {
            Vec::new()
        }
        ("POST" | "PATCH", path) => panic!("{path} has a body that no case knows"),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_400_and_name_the_field() {
    let world = World::open().await;
    let ids = world.ids(&world.rig).await;
    let before = world.snapshot(&world.town, &world.rig).await;
    for route in ROUTES {
        let (method, path) = (route.method.as_str(), ids.fill(route.path));
        let fields = fields(route);
        if fields.is_empty() {
            continue;
        }
        let needs_something = fields.iter().any(|(name, _)| name.ends_with('!'));
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
        for (name, field) in fields {
            let (name, mut wrong) = match name.strip_suffix('!') {
                Some(name) if matches!(field, Field::Kept) => (name, field.wrong()),
                Some(name) => (name, [vec![Value::Null], field.wrong()].concat()),
                None => (name, field.wrong()),
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
    let queries = [
        ("beads", "status=bogus"),
        ("beads", "type=bogus"),
        ("beads", "assignee_agent_bead_id=x"),
        ("beads", "limit=0"),
        ("beads", "limit=1001"),
        ("beads", "limit=x"),
        ("beads", "offset=-1"),
        ("agents", "role=bogus"),
        ("agents", "status=bogus"),
        ("agents/{agent}/events", "after_id=x"),
        ("agents/{agent}/events", "limit=1001"),
        ("../../escalations", "acknowledged=maybe"),
    ];
    for (list, query) in queries {
        let path = match list.strip_prefix("../..") {
            Some(list) => format!("{}{list}?{query}", world.town),
            None => format!("{}/{}?{query}", world.rig, ids.fill(list)),
        };
        let (status, answer) = world.server.call("GET", &path, Value::Null).await;
        assert_eq!(status, 400, "{path}: {answer}");
        let name = query.split_once('=').unwrap().0;
        assert_eq!(answer["issues"][0]["path"], json!([name]), "{path}");
    }
    assert_eq!(world.snapshot(&world.town, &world.rig).await, before);
}

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
    for route in ROUTES
        .iter()
        .filter(|route| !route.path.starts_with("/mcp/"))
    {
        let method = route.method.as_str();
        let body = samples::request(method, route.path, &ids);
        let named: Vec<_> = ids
            .all()
            .into_iter()
            .zip(foreign.all())
            .filter(|((name, _), _)| route.path.contains(&format!("{{{name}}}")))
            .collect();
        for ((name, _), (_, foreign)) in &named {
            let random = uuid::Uuid::new_v4().to_string();
            let mut values = vec!["x", "%00", "..%2F..", "%FF", random.as_str(), "1"];
            // A town alone in the path is all that says which town is meant.
            if named.len() > 1 || *name != "town" && *name != "rig" {
                values.push(foreign);
            }
            for value in values {
                let path = route.path.replace(&format!("{{{name}}}"), value);
                let (status, answer) = world
                    .server
                    .call(method, &ids.fill(&path), body.clone())
                    .await;
                if status != 404 || answer["success"] != false {
                    wrong.push(format!("{method} {path}: {status} {answer:.200}"));
                }
            }
        }
        // A town or rig of somebody else.
        if route.path.starts_with("/api/users/{user}/") && route.path.matches('{').count() > 1 {
            for user in ["somebody", "%00", "a%2Fb", &"x".repeat(129)] {
                let path = ids.fill(&route.path.replace("{user}", user));
                let (status, _) = world.server.call(method, &path, body.clone()).await;
                if status != 404 {
                    wrong.push(format!("{method} {path}: {status}"));
                }
            }
        }
    }
    wrong.extend(foreign_ids_in_bodies(&world, &ids, &foreign).await);
    wrong.extend(no_such_route(&world, &ids).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let after = [
        world.snapshot(&world.town, &world.rig).await,
        world.snapshot(&other_town, &other_rig).await,
    ];
    assert_eq!(after, before);
}

async fn foreign_ids_in_bodies(world: &World, ids: &Ids, foreign: &Ids) -> Vec<String> {
    let event = json!({"agent_id": foreign.agent, "event_type": "x"});
    let bead = |field: &str, id: &str| json!({"type": "issue", "title": "t", field: id});
    let mail = json!({"from_agent_id": ids.agent, "to_agent_id": foreign.agent, "subject": "s", "body": "b"});
    let review =
        |agent: &str, bead: &str| json!({"agent_id": agent, "bead_id": bead, "branch": "b"});
    let cases = [
        (
            format!("agents/{}/hook", ids.agent),
            json!({"bead_id": foreign.bead}),
        ),
        ("agent-events".to_owned(), event.clone()),
        ("agent-events/batch".to_owned(), json!({"events": [event]})),
        (
            "beads".to_owned(),
            bead("assignee_agent_id", &foreign.agent),
        ),
        ("beads".to_owned(), bead("parent_bead_id", &foreign.bead)),
        ("mail".to_owned(), mail),
        ("review-queue".to_owned(), review(&foreign.agent, &ids.bead)),
        ("review-queue".to_owned(), review(&ids.agent, &foreign.bead)),
        // A bead is no merge request.
        (
            format!("review-queue/{}/complete", ids.bead),
            json!({"status": "merged"}),
        ),
    ];
    let mut wrong = Vec::new();
    for (path, body) in cases {
        let path = format!("{}/{path}", world.rig);
        let (status, answer) = world.server.call("POST", &path, body.clone()).await;
        if status != 404 {
            wrong.push(format!("{path} {body}: {status} {answer}"));
        }
    }
    let body = json!({"town_id": foreign.town, "name": "r", "git_url": "https://h.invalid/r"});
    let (status, _) = world.server.call("POST", "/api/users/v/rigs", body).await;
    if status != 404 {
        wrong.push(format!("a rig in somebody else's town: {status}"));
    }
    wrong
}

async fn no_such_route(world: &World, ids: &Ids) -> Vec<String> {
    let mut wrong = Vec::new();
    let paths = ROUTES.iter().map(|route| ids.fill(route.path));
    let mut cases: Vec<_> = paths.map(|path| ("PUT", path)).collect();
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_413_and_nothing_is_stored() {
    let world = World::open().await;
    let ids = world.ids(&world.rig).await;
    let before = world.snapshot(&world.town, &world.rig).await;
    for route in ROUTES
        .iter()
        .filter(|route| ["POST", "PATCH"].contains(&route.method.as_str()))
    {
        // The tools take only an agent's word.
        if route.path.starts_with("/mcp/") {
            continue;
        }
        for bytes in [(1 << 20) + 1, 5 << 20] {
            let method = route.method.as_str();
            let body = samples::request(method, route.path, &ids);
            let mut body = body.to_string().into_bytes();
            body.resize(bytes, b' ');
            let path = ids.fill(route.path);
            let (status, answer) = request(world.server.address(), method, &path, &[], body).await;
            assert_eq!(status, 413, "{method} {path}");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["code"], "body_too_large");
        }
    }
    assert_eq!(world.snapshot(&world.town, &world.rig).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_forbids_is_409() {
    let world = World::open().await;
    let (server, rig) = (&world.server, &world.rig);
    let hooked = world.idle_ids(rig).await;
    world.hook(&hooked).await;
    let ids = world.ids(rig).await;
    let closed = world.bead(rig, "issue").await;
    server
        .post(&format!("{rig}/beads/{closed}/close"), json!({}))
        .await;
    let agents = server.get(&format!("{rig}/agents")).await;
    let taken = agents
        .as_array()
        .unwrap()
        .iter()
        .find(|agent| agent["id"] == ids.agent.as_str())
        .unwrap()
        .clone();
    for role in ["refinery", "witness"] {
        let path = format!("{rig}/agents/get-or-create");
        server.post(&path, json!({"role": role})).await;
    }
    let waiting = world.bead(rig, "issue").await;
    let review = json!({"agent_id": ids.agent, "bead_id": waiting, "branch": "b"});
    server
        .post(&format!("{rig}/review-queue"), review.clone())
        .await;
    let rigs = format!("/api/users/u/towns/{}/rigs", last(&world.town));
    let rig_name = server.get(&rigs).await[0]["name"].clone();
    let agent = |role: &str, name: &Value, identity: &Value| json!({"role": role, "name": name, "identity": identity});
    let fresh = || json!(world.fresh());
    let limit = json!({"max_polecats_per_rig": 1});
    server
        .must("PATCH", &format!("{}/config", world.town), limit)
        .await;
    let (free, busy) = (&ids.agent, &hooked.agent);
    let cases = [
        (
            "POST",
            "agents".to_owned(),
            agent("polecat", &taken["name"], &fresh()),
            "agent_name_taken",
        ),
        (
            "POST",
            "agents".to_owned(),
            agent("polecat", &fresh(), &taken["identity"]),
            "identity_taken",
        ),
        (
            "POST",
            "agents".to_owned(),
            agent("refinery", &fresh(), &fresh()),
            "role_taken",
        ),
        (
            "POST",
            "agents".to_owned(),
            agent("witness", &fresh(), &fresh()),
            "role_taken",
        ),
        (
            "POST",
            format!("agents/{busy}/hook"),
            json!({"bead_id": ids.bead}),
            "agent_already_hooked",
        ),
        (
            "POST",
            format!("agents/{free}/hook"),
            json!({"bead_id": hooked.bead}),
            "bead_hooked",
        ),
        (
            "POST",
            format!("agents/{free}/hook"),
            json!({"bead_id": closed}),
            "bead_terminal",
        ),
        (
            "POST",
            format!("agents/{free}/hook"),
            json!({"bead_id": waiting}),
            "bead_in_review",
        ),
        (
            "POST",
            format!("agents/{free}/done"),
            json!({"branch": "b"}),
            "hook_empty",
        ),
        (
            "PATCH",
            format!("beads/{closed}/status"),
            json!({"status": "in_progress"}),
            "bead_terminal",
        ),
        (
            "PATCH",
            format!("beads/{closed}/status"),
            json!({"status": "failed"}),
            "bead_terminal",
        ),
        (
            "PATCH",
            format!("beads/{}/status", hooked.bead),
            json!({"status": "open"}),
            "bead_hooked",
        ),
        (
            "POST",
            format!("review-queue/{}/complete", ids.entry),
            json!({"status": "merged"}),
            "review_finished",
        ),
        ("POST", "review-queue".to_owned(), review, "bead_in_review"),
        (
            "POST",
            "review-queue".to_owned(),
            json!({"agent_id": free, "bead_id": closed, "branch": "b"}),
            "bead_terminal",
        ),
    ];
    for (method, path, body, code) in cases {
        let path = format!("{rig}/{path}");
        let (status, answer) = server.call(method, &path, body).await;
        assert_eq!(
            (status.as_u16(), &answer["code"]),
            (409, &json!(code)),
            "{path}: {answer}"
        );
    }
    let body =
        json!({"town_id": last(&world.town), "name": rig_name, "git_url": "https://h.invalid/r"});
    let (status, answer) = server.call("POST", "/api/users/u/rigs", body).await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (409, &json!("rig_name_taken"))
    );
    // Every free polecat is taken before the limit counts.
    let order = json!({"title": "one more"});
    let refused = loop {
        let (status, answer) = server
            .call("POST", &format!("{rig}/sling"), order.clone())
            .await;
        if status != 201 {
            break (status.as_u16(), answer["code"].clone());
        }
    };
    assert_eq!(refused, (409, json!("too_many_polecats")));
}
