//! Tokens for programs, and sockets whose credentials come to their end.

use gastownd::clock::Clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::server::{Server, Stream, exchange, request};

async fn status(server: &Server, path: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let (status, _) = request(server.address(), "GET", path, &headers, vec![]).await;
    status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_works_and_fails_at_once_when_revoked() {
    let mut server = Server::with_login(&[]);
    let town = server.town(json!({})).await;
    let made = server
        .must(
            "POST",
            "/api/tokens",
            json!({"name": "ci", "expires_in_days": 7}),
        )
        .await;
    let token = made["token"].as_str().unwrap().to_owned();
    let other = server.post("/api/tokens", json!({"name": "other"})).await;
    assert_eq!(other["expires_at"], Value::Null);
    assert!(made["expires_at"].is_string());
    assert_eq!(status(&server, "/api/towns", &token).await, 200);
    assert_eq!(
        status(&server, "/api/towns", &format!("{token}x")).await,
        401
    );

    let list = server.get("/api/tokens").await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(&token), "never whole again");
    let listed = list.as_array().unwrap().iter();
    let mut listed = listed.filter(|row| row["id"] == made["id"]);
    let ending = &token[token.len() - 4..];
    assert_eq!(listed.next().unwrap()["token"], format!("****{ending}"));

    // It outlives a restart, and nowhere in the data folder does it stand.
    server.terminate();
    server.restart();
    assert_eq!(status(&server, "/api/towns", &token).await, 200);
    let grep = std::process::Command::new("grep")
        .args(["-r", "-q", "-a", &token])
        .arg(server.data.path())
        .status();
    assert_eq!(grep.unwrap().code(), Some(1), "grep finds nothing");

    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let ws = format!("{town}/ws");
    let mut stream = Stream::connect(server.address(), &ws, &headers).await;
    assert_eq!(stream.next().await.unwrap()["type"], "hello");
    let path = format!("/api/tokens/{}", made["id"].as_str().unwrap());
    server.must("DELETE", &path, Value::Null).await;
    assert_eq!(status(&server, "/api/towns", &token).await, 401);
    assert_eq!(stream.close_code().await, Some(1008));
    let (code, answer) = server.call("DELETE", &path, Value::Null).await;
    assert_eq!(
        (code.as_u16(), &answer["code"]),
        (404, &json!("token_not_found"))
    );
    let left = server.get("/api/tokens").await;
    assert_eq!(left.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_closes_when_its_session_ends() {
    let server = Server::with_login(&[]);
    let town = server.town(json!({})).await;
    let key = std::fs::read_to_string(server.data.path().join("signing.key")).unwrap();
    let key = EncodingKey::from_secret(key.trim().as_bytes());
    let now = Clock::system().now().as_millis() / 1000;
    let claims = json!({"kind": "session", "exp": now + 3});
    let session = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let cookie = format!("gastown_session={session}");
    let ws = format!("{town}/ws");
    let mut stream = Stream::connect(server.address(), &ws, &[("cookie", &cookie)]).await;
    assert_eq!(stream.next().await.unwrap()["type"], "hello");
    assert_eq!(stream.close_code().await, Some(4401));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_https_the_cookie_is_never_sent_otherwise() {
    for (url, secure) in [
        ("https://town.example", true),
        ("http://town.example", false),
    ] {
        let server = Server::with_login(&["--public-url", url]);
        let body = json!({"token": server.token()}).to_string().into_bytes();
        let address = server.address();
        let (_, headers, _) = exchange(address, "POST", "/api/session", &[], body).await;
        let by_session = headers["set-cookie"].to_str().unwrap().contains("; Secure");
        let link = format!("/?token={}", server.token());
        let (_, headers, _) = exchange(address, "GET", &link, &[], vec![]).await;
        let by_link = headers["set-cookie"].to_str().unwrap().contains("; Secure");
        assert_eq!((by_session, by_link), (secure, secure), "{url}");
    }
}
