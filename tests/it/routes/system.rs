//! The server itself, its page, logging in, and the tools over MCP.

use serde_json::{Value, json};

use super::case::Case;
use super::case::Field::Text;
use crate::support::server::exchange;
use crate::support::world::{Ids, World, agent_token};

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("GET", "/health").exact(&[""]),
        Case::of("GET", "/ready").answers(200, json!({"ready": true})),
        Case::of("GET", "/api/openapi.json").by_hand(async |world, _| {
            let (status, document) = world
                .server
                .call("GET", "/api/openapi.json", Value::Null)
                .await;
            assert_eq!(
                (status.as_u16(), &document["openapi"]),
                (200, &json!("3.1.0"))
            );
        }),
        Case::of("GET", "/metrics").by_hand(metrics),
        Case::of("GET", "/").by_hand(async |world, _| page(world, "/").await),
        Case::of("GET", "/assets/{*path}")
            .by_hand(async |world, _| page(world, "/assets/style.css").await),
        Case::of("POST", "/api/session")
            .fields(&[("token!", Text(2048))])
            .ignores_keys("it keeps no state: each cookie stands for itself")
            .by_hand(async |world, _| {
                let token = std::fs::read_to_string(world.server.data.path().join("admin.token"));
                let body = json!({"token": token.unwrap().trim()});
                let body = body.to_string().into_bytes();
                let address = world.server.address();
                let (status, headers, _) =
                    exchange(address, "POST", "/api/session", &[], body).await;
                assert_eq!(status, 201);
                assert!(headers.contains_key("set-cookie"));
            })
            .refuses(401, "unauthorized", async |_, _| json!({"token": "wrong"})),
        Case::of("DELETE", "/api/session")
            .answers(200, json!({"loggedIn": false}))
            .ignores_keys("it keeps no state: it only tells the browser to forget"),
        mcp("GET"),
        mcp("POST"),
        mcp("DELETE"),
    ]
}

/// Every line is one of the text format, and what has happened here is counted.
async fn metrics(world: &World, ids: &mut Ids) {
    world.hook(ids).await;
    let address = world.server.address();
    let (status, headers, body) = exchange(address, "GET", "/metrics", &[], vec![]).await;
    assert_eq!(status, 200);
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .contains("version=0.0.4")
    );
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut values = std::collections::HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(values.insert(name, value).is_none(), "{name} stands twice");
        let metric = name.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| metric.strip_suffix(end))
            .unwrap_or(metric);
        assert!(text.contains(&format!("# TYPE {base} ")), "{line}");
    }
    let towns = world.server.get("/api/towns").await;
    let towns = towns.as_array().unwrap().len();
    let at_least = [
        ("gastownd_towns", towns),
        ("gastownd_agents{status=\"idle\"}", 1),
        ("gastownd_batches_total", 1),
        ("gastownd_commit_seconds_count", 1),
        ("gastownd_facts_total{type=\"bead.hooked\"}", 1),
        (
            "gastownd_http_requests_total{method=\"POST\",route=\"/api/users/{user}/rigs\",status=\"201\"}",
            1,
        ),
        (
            "gastownd_http_request_seconds_bucket{method=\"POST\",route=\"/api/users/{user}/rigs\",le=\"+Inf\"}",
            1,
        ),
    ];
    for (name, least) in at_least {
        let found = values.get(name).copied().unwrap_or(-1.0);
        assert!(
            found >= f64::from(u32::try_from(least).unwrap()),
            "{name}: {found}\n{text}"
        );
    }
    for name in [
        "gastownd_sockets",
        "gastownd_events_delivered_total",
        "gastownd_containers_up",
    ] {
        assert!(values.contains_key(name), "{name}");
    }
}

async fn page(world: &World, path: &str) {
    let (status, headers, body) = exchange(world.server.address(), "GET", path, &[], vec![]).await;
    assert_eq!(status, 200, "{path}");
    assert!(!body.is_empty() && headers.contains_key("content-security-policy"));
}

fn mcp(method: &'static str) -> Case {
    let case = Case::of(method, "/mcp/{agent}")
        .ignores_keys("a protocol of its own, with ids of its own")
        .by_hand(async move |world, ids| {
            let (status, body) = list_tools(world, method, ids).await;
            assert_eq!(status, if method == "POST" { 200 } else { 405 }, "{method}");
            assert!(method != "POST" || body.contains("\"prime\""), "{body}");
        });
    case.refuses(403, "forbidden", async |_, _| Value::Null)
}

async fn list_tools(world: &World, method: &str, ids: &Ids) -> (u16, String) {
    let bearer = format!("Bearer {}", agent_token(&world.server, ids));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let body = list.to_string().into_bytes();
    let path = ids.fill("/mcp/{agent}");
    let (status, _, body) = exchange(world.server.address(), method, &path, &headers, body).await;
    (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}
