//! The WebSocket of a town, against a real server.

use fastwebsockets::{Frame, OpCode};
use serde_json::{Value, json};

use crate::support::repository::Repository;
use crate::support::server::{PATIENCE, Server, Stream, exchange, exchange_on};
use crate::support::world::World;

/// Appends events `from..=to`, whose data is their number.
async fn append(world: &World, agent: &str, from: u64, to: u64) {
    let events: Vec<_> = (from..=to)
        .map(|n| json!({"agent_id": agent, "event_type": "n", "data": n}))
        .collect();
    let path = format!("{}/agent-events/batch", world.rig);
    let appended = world.server.post(&path, json!({"events": events})).await;
    assert_eq!(appended["last_id"], to);
}

/// The next `count` events' ids.
async fn ids(stream: &mut Stream, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = stream.event().await.expect("the stream goes on");
        assert_eq!(event["data"], event["id"]);
        ids.push(event["id"].as_u64().unwrap());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_begin_where_they_are_asked_to() {
    let world = World::open().await;
    let agent = world.agent(&world.rig, "polecat").await;
    append(&world, &agent, 1, 5).await;
    let mut stream = world.server.stream(&world.town).await;
    stream
        .say(json!({"type": "subscribe", "agentId": agent, "afterEventId": 0}))
        .await;
    let subscribed = stream.next().await.unwrap();
    let epoch = subscribed["epoch"].clone();
    let expected = json!({
        "type": "subscribed", "agentId": agent, "epoch": epoch,
        "firstEventId": 1, "lastEventId": 5, "recovered": true,
    });
    assert_eq!(subscribed, expected);
    assert_eq!(ids(&mut stream, 5).await, [1, 2, 3, 4, 5]);
    let live = json!({"type": "live", "agentId": agent, "lastEventId": 5});
    assert_eq!(stream.next().await.unwrap(), live);

    let other = uuid::Uuid::new_v4().to_string();
    let cases = [
        (json!({}), true, vec![]),
        (json!({"afterEventId": 0}), true, vec![1, 2, 3, 4, 5]),
        (json!({"afterEventId": 3}), true, vec![4, 5]),
        (json!({"afterEventId": 3, "epoch": epoch}), true, vec![4, 5]),
        (json!({"afterEventId": 5}), true, vec![]),
        (json!({"afterEventId": 6}), false, vec![1, 2, 3, 4, 5]),
        (
            json!({"afterEventId": u64::MAX}),
            false,
            vec![1, 2, 3, 4, 5],
        ),
        (
            json!({"afterEventId": 3, "epoch": other}),
            false,
            vec![1, 2, 3, 4, 5],
        ),
        (
            json!({"afterEventId": 3, "epoch": "x"}),
            false,
            vec![1, 2, 3, 4, 5],
        ),
    ];
    // On one socket: subscribing again moves the cursor.
    for (wanted, recovered, expected) in cases {
        let mut message = json!({"type": "subscribe", "agentId": agent});
        for (name, value) in wanted.as_object().unwrap() {
            message[name] = value.clone();
        }
        stream.say(message).await;
        let subscribed = stream.next().await.unwrap();
        assert_eq!(subscribed["type"], "subscribed", "{wanted}");
        assert_eq!(subscribed["recovered"], recovered, "{wanted}");
        assert_eq!(ids(&mut stream, expected.len()).await, expected, "{wanted}");
        assert_eq!(stream.next().await.unwrap(), live, "{wanted}");
    }
    append(&world, &agent, 6, 7).await;
    assert_eq!(
        ids(&mut stream, 2).await,
        [6, 7],
        "once, not once a subscription"
    );

    // Behind an unsubscribe nothing comes; the pong proves that it was heard.
    stream
        .say(json!({"type": "unsubscribe", "agentId": agent}))
        .await;
    stream.say(json!({"type": "ping", "id": 1})).await;
    assert_eq!(
        stream.next().await.unwrap(),
        json!({"type": "pong", "id": 1})
    );
    append(&world, &agent, 8, 8).await;
    stream.say(json!({"type": "ping", "id": "two"})).await;
    assert_eq!(
        stream.next().await.unwrap(),
        json!({"type": "pong", "id": "two"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_town_topic_tells_a_whole_flow_in_order() {
    let repository = Repository::new();
    let server = Server::start(&[]);
    let town = server.town(json!({"agent_server": "rehearsal"})).await;
    let rig = server.rig(&town, &repository.origin()).await;
    let mut stream = server.stream(&town).await;
    let topic = json!({"type": "subscribe", "topic": "town", "afterEventId": 0});
    stream.say(topic.clone()).await;
    let slung = server
        .post(&format!("{rig}/sling"), json!({"title": "Write it down"}))
        .await;
    let bead = slung["bead"]["bead_id"].clone();
    let mut facts: Vec<Value> = Vec::new();
    while !facts
        .last()
        .is_some_and(|fact| fact["type"] == "bead.closed" && fact["data"]["bead_id"] == bead)
    {
        facts.push(stream.event().await.expect("the stream goes on"));
    }
    let mut types = Vec::new();
    for (fact, id) in facts.iter().zip(1..) {
        assert_eq!(fact["topic"], "town");
        assert_eq!(fact["id"], id, "no gap and no repeat");
        assert_ne!(fact["type"], "bead.failed", "{fact}");
        if fact["data"]["bead_id"] == bead {
            types.push(fact["type"].as_str().unwrap());
        }
    }
    let expected = [
        "bead.created",
        "bead.hooked",
        "bead.status_changed",
        "agent.dispatched",
        "agent.started",
        "agent.done",
        "bead.unhooked",
        "review.submitted",
        "review.started",
        "review.completed",
        "bead.status_changed",
        "bead.closed",
    ];
    let mut left = types.iter();
    for wanted in expected {
        assert!(left.any(|fact| *fact == wanted), "{wanted} in {types:?}");
    }
    // Who comes later is told the same.
    let mut second = server.stream(&town).await;
    second.say(topic).await;
    for fact in &facts {
        assert_eq!(second.event().await.as_ref(), Some(fact));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_gets_an_error_and_in_the_end_the_door() {
    let world = World::open().await;
    let (_, other_rig) = world.town_with_rig().await;
    let foreign = world.agent(&other_rig, "polecat").await;
    let mut stream = world.server.stream(&world.town).await;
    for agent in [foreign, uuid::Uuid::new_v4().to_string()] {
        stream.subscribe(&agent, 0).await;
        let error = stream.next().await.unwrap();
        assert_eq!(error["type"], "error");
        assert_eq!(error["code"], "unknown_agent");
        assert_eq!(error["agentId"], agent.as_str());
    }
    let invalid = [
        "",
        "7",
        "[]",
        "nonsense",
        "{\"type\":\"dance\"}",
        "{\"type\":\"subscribe\"}",
        "{\"type\":\"subscribe\",\"agentId\":7}",
        "{\"type\":\"subscribe\",\"topic\":\"moon\"}",
    ];
    for text in invalid.iter().cycle().take(19) {
        stream.send(Frame::text(text.as_bytes().into())).await;
        let error = stream.next().await.unwrap();
        assert_eq!(error["code"], "invalid_message", "{text}");
        assert!(error["message"].is_string());
    }
    stream.send(Frame::binary(vec![1, 2, 3].into())).await;
    assert_eq!(stream.close_code().await, Some(1008));

    let mut stream = world.server.stream(&world.town).await;
    let long = json!({"type": "ping", "id": "x".repeat(65_000)});
    stream.say(long.clone()).await;
    assert_eq!(
        stream.next().await.unwrap()["id"],
        long["id"],
        "just below 64 KiB"
    );
    let too_long = json!({"type": "ping", "id": "x".repeat(66_000)});
    stream.say(too_long).await;
    assert_eq!(stream.close_code().await, Some(1009));

    let mut stream = world.server.stream(&world.town).await;
    stream.send(Frame::close(1000, b"")).await;
    assert_eq!(stream.close_code().await, Some(1000));

    let nowhere = format!("/api/towns/{}/ws", uuid::Uuid::new_v4());
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    for path in [nowhere.as_str(), "/api/towns/x/ws"] {
        let (status, _, _) = exchange(world.server.address(), "GET", path, &upgrade, vec![]).await;
        assert_eq!(status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_ends_and_a_restart_is_told() {
    let mut world = World::open().await;
    let agent = world.agent(&world.rig, "polecat").await;
    let mut stream = world.server.stream(&world.town).await;
    stream.subscribe(&agent, 0).await;
    assert_eq!(stream.next().await.unwrap()["type"], "subscribed");
    assert_eq!(stream.next().await.unwrap()["type"], "live");
    let path = format!("{}/agents/{agent}", world.rig);
    world.server.must("DELETE", &path, Value::Null).await;
    let ended = json!({"type": "ended", "agentId": agent});
    assert_eq!(stream.next().await.unwrap(), ended);
    stream.subscribe(&agent, 0).await;
    assert_eq!(stream.next().await.unwrap()["code"], "unknown_agent");

    let (town, _) = world.town_with_rig().await;
    let mut stream = world.server.stream(&town).await;
    stream
        .say(json!({"type": "subscribe", "topic": "town"}))
        .await;
    assert_eq!(stream.next().await.unwrap()["type"], "subscribed");
    assert_eq!(stream.next().await.unwrap()["type"], "live");
    let path = town.replace("/api/", "/api/users/u/");
    world.server.must("DELETE", &path, Value::Null).await;
    let ended = json!({"type": "ended", "topic": "town"});
    assert_eq!(stream.next().await.unwrap(), ended);
    assert_eq!(stream.close_code().await, Some(4404));

    let mut stream = world.server.stream(&world.town).await;
    assert!(world.server.terminate().success());
    assert_eq!(stream.close_code().await, Some(1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_carries_thousands_of_subscriptions() {
    const AGENTS: usize = 2000;
    let world = World::open().await;
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        agents.push(world.agent(&world.rig, "polecat").await);
    }
    let mut stream = world.server.stream(&world.town).await;
    for agent in &agents {
        stream.subscribe(agent, 0).await;
        assert_eq!(stream.next().await.unwrap()["type"], "subscribed");
        assert_eq!(stream.next().await.unwrap()["type"], "live");
    }
    for agent in agents.iter().step_by(97) {
        append(&world, agent, 1, 1).await;
        let event = stream.event().await.unwrap();
        assert_eq!(event["agentId"], agent.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_asked_and_then_let_go() {
    let world = World::open().await;
    let mut stream = world.server.stream(&world.town).await;
    let ping = Frame::new(true, OpCode::Ping, None, b"there?".to_vec().into());
    stream.send(ping).await;
    let pong = (OpCode::Pong, b"there?".to_vec());
    assert_eq!(stream.frame().await, Some(pong));
    let (opcode, _) = stream.frame().await.unwrap();
    assert_eq!(opcode, OpCode::Ping, "the server asks");
    assert_eq!(stream.frame().await, None, "no answer, no connection");
}

/// One request on a connection of its own; `None` if the server closed it unanswered.
async fn ask(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<(u16, hyper::HeaderMap, Value)> {
    let address = server.address();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let answer = exchange_on(stream, address, "GET", path, headers, vec![]).await;
    let (status, headers, body) = answer.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some((status.as_u16(), headers, body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_counts_as_a_connection_for_as_long_as_it_lives() {
    const MOST: usize = 8;
    let server = Server::start(&["--http-connections-max", &MOST.to_string()]);
    let town = server.town(json!({"agent_server": "rehearsal"})).await;
    let path = format!("{town}/ws");
    // Connections that were used before may take a moment to go, so some tries may be refused.
    let mut streams = Vec::new();
    let begun = std::time::Instant::now();
    while streams.len() < MOST {
        assert!(begun.elapsed() < PATIENCE, "{} of {MOST}", streams.len());
        if let Some(mut stream) = Stream::try_connect(server.address(), &path, &[]).await {
            assert_eq!(stream.next().await.unwrap()["type"], "hello");
            streams.push(stream);
        }
    }
    // All places are taken by WebSockets, whose handshakes are over.
    let upgrade = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("sec-websocket-version", "13"),
    ];
    for (path, headers) in [("/health", &[][..]), (path.as_str(), &upgrade)] {
        let answer = ask(&server, path, headers).await;
        let (status, headers, body) = answer.expect("a refusal is an answer");
        assert_eq!(
            (status, &body["code"]),
            (503, &json!("too_many_connections"))
        );
        assert!(headers.contains_key("retry-after"), "{headers:?}");
    }
    // Those that are there go on, and a place that is given back is used again.
    for stream in &mut streams {
        stream.say(json!({"type": "ping", "id": 2})).await;
        assert_eq!(stream.next().await.unwrap()["type"], "pong");
    }
    streams.pop();
    let begun = std::time::Instant::now();
    while ask(&server, "/health", &[])
        .await
        .is_none_or(|answer| answer.0 != 200)
    {
        assert!(begun.elapsed() < PATIENCE, "the place is never given back");
    }
}
