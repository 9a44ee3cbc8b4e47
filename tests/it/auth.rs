//! Who gets in: the first link, cookies, tokens of people and agents, and pages of other origins.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use gastownd::http::ROUTES;
use gastownd::http::auth::Scope;
use serde_json::{Value, json};

use crate::support::server::{Server, Stream, exchange};
use crate::support::world::{World, agent_token};

type Header<'a> = (&'a str, &'a str);

/// The status of a request with these headers.
async fn status(server: &Server, method: &str, path: &str, headers: &[Header<'_>]) -> u16 {
    let (status, _, _) = exchange(server.address(), method, path, headers, vec![]).await;
    status.as_u16()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_tells_the_link_once_and_the_link_logs_in() {
    let mut server = Server::with_login(&[]);
    let link = format!("http://{}/?token={}", server.address(), server.token());
    assert_eq!(server.said().matches(&link).count(), 1, "{}", server.said());
    for file in ["admin.token", "signing.key"] {
        let file = server.data.path().join(file);
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let path = format!("/?token={}", server.token());
    let (code, headers, _) = exchange(server.address(), "GET", &path, &[], vec![]).await;
    assert_eq!(
        (code.as_u16(), &headers["location"]),
        (303, &"/".parse().unwrap())
    );
    let cookie = headers["set-cookie"].to_str().unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(
        !cookie.contains(server.token()),
        "the cookie is not the token"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let with_cookie = [("cookie", cookie.as_str())];
    assert_eq!(status(&server, "GET", "/", &with_cookie).await, 200);
    assert_eq!(
        status(&server, "GET", "/api/towns", &with_cookie).await,
        200
    );

    let (code, _, page) = exchange(server.address(), "GET", "/", &[], vec![]).await;
    assert_eq!(code, 401);
    assert!(
        String::from_utf8_lossy(&page).contains("<form"),
        "the login form"
    );
    assert_eq!(status(&server, "GET", "/?token=wrong", &[]).await, 401);
    assert_eq!(status(&server, "GET", "/assets/style.css", &[]).await, 200);
    assert_eq!(status(&server, "GET", "/health", &[]).await, 200);

    let wrong = json!({"token": "wrong"}).to_string().into_bytes();
    let (code, headers, _) = exchange(server.address(), "POST", "/api/session", &[], wrong).await;
    assert_eq!(code, 401);
    assert!(!headers.contains_key("set-cookie"));
    let right = json!({"token": server.token()}).to_string().into_bytes();
    let (code, headers, _) = exchange(server.address(), "POST", "/api/session", &[], right).await;
    assert_eq!(code, 201);
    assert!(
        headers["set-cookie"]
            .to_str()
            .unwrap()
            .starts_with("gastown_session=ey")
    );
    let (code, headers, _) = exchange(
        server.address(),
        "DELETE",
        "/api/session",
        &with_cookie,
        vec![],
    )
    .await;
    assert_eq!(code, 200);
    let gone = headers["set-cookie"].to_str().unwrap();
    assert!(
        gone.starts_with("gastown_session=;") && gone.contains("Max-Age=0"),
        "{gone}"
    );

    // The second start says nothing, and what was given before is still good.
    server.terminate();
    server.restart();
    assert!(!server.said().contains("token="), "{}", server.said());
    assert_eq!(
        status(&server, "GET", "/api/towns", &with_cookie).await,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_its_scope() {
    let world = World::with_login().await;
    let server = &world.server;
    let ids = world.idle_ids(&world.rig).await;
    let (_, other_rig) = world.town_with_rig().await;
    let foreign = world.idle_ids(&other_rig).await;
    let token = bearer(&agent_token(server, &ids));
    let own = [("authorization", token.as_str())];
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let nobody: [&[Header<'_>]; 6] = [
        &[],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Basic dTpw")],
        &[("authorization", &forged)],
        &[("cookie", "gastown_session=wrong")],
        &[("sec-websocket-protocol", "gastown.v1, gastown.bearer.wrong")],
    ];
    for route in ROUTES {
        let (method, path) = (route.method.as_str(), ids.fill(route.path));
        for headers in nobody {
            let found = status(server, method, &path, headers).await;
            let refused = found == 401;
            // The page and the way in answer 401 by themselves, or 400 without a token.
            let is_open = route.scope == Scope::Public;
            assert!(refused || is_open, "{route:?} with {headers:?}: {found}");
        }
        if route.scope == Scope::Public {
            continue;
        }
        let found = status(server, method, &foreign.fill(route.path), &own).await;
        assert_eq!(found, 403, "{route:?} of another place");
        match route.scope {
            Scope::Admin | Scope::Mayor => {
                assert_eq!(status(server, method, &path, &own).await, 403, "{route:?}");
            }
            Scope::Agent => {
                let path = path.replace(&ids.agent, &ids.other_agent);
                assert_eq!(status(server, method, &path, &own).await, 403, "{route:?}");
            }
            _ => {}
        }
    }
    // Without credentials nobody learns which routes there are.
    assert_eq!(status(server, "GET", "/nowhere", &[]).await, 401);
    assert_eq!(status(server, "GET", "/nowhere", &own).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_opens_its_own_routes_in_its_own_name_while_it_lives() {
    let world = World::with_login().await;
    let server = &world.server;
    let ids = world.idle_ids(&world.rig).await;
    let token = bearer(&agent_token(server, &ids));
    let own = [("authorization", token.as_str())];
    let routes = ROUTES
        .iter()
        .filter(|route| matches!(route.scope, Scope::Rig | Scope::Agent));
    for route in routes {
        let found = status(server, route.method.as_str(), &ids.fill(route.path), &own).await;
        assert!(![401, 403].contains(&found), "{route:?}: {found}");
    }
    let acts_for_another = [
        (
            "agent-events",
            json!({"agent_id": ids.other_agent, "event_type": "x"}),
        ),
        (
            "mail",
            json!({"from_agent_id": ids.other_agent, "to_agent_id": ids.agent, "subject": "s", "body": "b"}),
        ),
        (
            "review-queue",
            json!({"agent_id": ids.other_agent, "bead_id": ids.bead, "branch": "b"}),
        ),
    ];
    for (path, body) in acts_for_another {
        let path = format!("{}/{path}", world.rig);
        let body = body.to_string().into_bytes();
        let (code, _, answer) = exchange(server.address(), "POST", &path, &own, body).await;
        assert_eq!(code, 403, "{path}: {}", String::from_utf8_lossy(&answer));
    }
    // It closes beads, but only a person opens them again.
    let path = format!("{}/beads/{}", world.rig, ids.bead);
    for (wanted, expected) in [("closed", 200), ("open", 409)] {
        let body = json!({"status": wanted}).to_string().into_bytes();
        let path = format!("{path}/status");
        let (code, _, _) = exchange(server.address(), "PATCH", &path, &own, body).await;
        assert_eq!(code, expected, "{wanted}");
    }
    let reopen = json!({"status": "open"});
    let bead = server
        .must("PATCH", &format!("{path}/status"), reopen)
        .await;
    assert_eq!(bead["status"], "open");

    let agent = format!("{}/agents/{}", world.rig, ids.agent);
    assert_eq!(status(server, "GET", &agent, &own).await, 200);
    server.must("DELETE", &agent, Value::Null).await;
    let mcp = format!("/mcp/{}", ids.agent);
    let beads = format!("{}/beads", world.rig);
    for (method, path) in [("GET", &agent), ("GET", &beads), ("POST", &mcp)] {
        let found = status(server, method, path, &own).await;
        assert_eq!(found, 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_get_nothing() {
    let world = World::with_login().await;
    let server = &world.server;
    let address = server.address();
    let path = format!("/?token={}", server.token());
    let (_, headers, _) = exchange(address, "GET", &path, &[], vec![]).await;
    let cookie = headers["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let own_origin = format!("http://{address}");
    let ws = format!("{}/ws", world.town);
    let token = bearer(server.token());
    let protocols = format!("gastown.v1, gastown.bearer.{}", server.token());
    let cases: [(&[Header<'_>], u16); 7] = [
        (&[("cookie", &cookie), ("origin", &own_origin)], 200),
        (&[("cookie", &cookie)], 200),
        (
            &[("cookie", &cookie), ("origin", "http://evil.example")],
            401,
        ),
        (&[("cookie", &cookie), ("origin", "null")], 401),
        // A token is not something that a browser sends by itself.
        (
            &[("authorization", &token), ("origin", "http://evil.example")],
            200,
        ),
        (&[("sec-websocket-protocol", &protocols)], 200),
        (&[("origin", &own_origin)], 401),
    ];
    for (headers, expected) in cases {
        let found = status(server, "GET", "/api/towns", headers).await;
        assert_eq!(found, expected, "{headers:?}");
        // The same for the socket: past the credentials it misses only the upgrade.
        let found = status(server, "GET", &ws, headers).await;
        assert_eq!(
            found,
            if expected == 200 { 400 } else { 401 },
            "{headers:?}"
        );
        if expected == 200 {
            let mut stream = Stream::connect(address, &ws, headers).await;
            assert_eq!(stream.next().await.unwrap()["type"], "hello", "{headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_login_only_this_machine_is_served() {
    let world = World::open().await;
    let server = &world.server;
    let port = server.address().rsplit(':').next().unwrap();
    let cases = [
        (format!("127.0.0.1:{port}"), None, 200),
        (format!("localhost:{port}"), None, 200),
        (
            format!("localhost:{port}"),
            Some(format!("http://localhost:{port}")),
            200,
        ),
        (
            format!("127.0.0.1:{port}"),
            Some("http://evil.example".to_owned()),
            401,
        ),
        // A foreign name that was pointed at this machine.
        (format!("evil.example:{port}"), None, 401),
        (
            format!("evil.example:{port}"),
            Some(format!("http://evil.example:{port}")),
            401,
        ),
    ];
    for (host, origin, expected) in cases {
        let mut headers = vec![("host", host.as_str())];
        headers.extend(origin.as_deref().map(|origin| ("origin", origin)));
        for path in ["/api/towns", "/"] {
            let found = status_of_host(server, path, &headers).await;
            assert_eq!(found, expected, "{headers:?} {path}");
        }
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_gastownd"))
        .args(["serve", "--no-auth", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(server.data.path().join("other"))
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("loopback"), "{said}");
}

/// Like [`status`], with a `Host` of the test's choice.
async fn status_of_host(server: &Server, path: &str, headers: &[Header<'_>]) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let mut request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
