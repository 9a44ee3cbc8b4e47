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
