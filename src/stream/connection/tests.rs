use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf};

use super::*;
use crate::agent_log::{Logs, NewEvent};
use crate::model::{AgentId, Timestamp};
use crate::storage::Database;
use crate::stream::MessageReader;

#[derive(Clone)]
struct OneTown(Logs, Vec<AgentId>);

impl Feeds for OneTown {
    async fn log(&self, subject: Subject) -> Result<Option<Log>, storage::Error> {
        match subject {
            Subject::Agent(agent) if self.1.contains(&agent) => self.0.open(agent).await.map(Some),
            _ => Ok(None),
        }
    }
}

struct Client {
    reader: Option<MessageReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl Client {
    fn connect(feeds: &OneTown, lifecycle: &Lifecycle) -> Self {
        Self::joining(feeds, lifecycle, Duration::ZERO)
    }

    fn joining(feeds: &OneTown, lifecycle: &Lifecycle, join_interval: Duration) -> Self {
        let (client, server) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(server);
        let options = Options {
            town_id: "t".to_owned(),
            subscribed: None,
            fanout: Fanout::start(join_interval, lifecycle),
            frames: Frames::Shared,
            leave: Box::pin(std::future::pending()),
        };
        let (feeds, life) = (feeds.clone(), lifecycle.clone());
        lifecycle.spawn("connection", async move {
            serve(reader, writer, feeds, options, life).await;
        });
        let (reader, writer) = tokio::io::split(client);
        Self {
            reader: Some(MessageReader::new(reader, Role::Client, 1 << 22)),
            writer,
        }
    }

    async fn say(&mut self, text: &str) {
        self.writer
            .write_all(&writer::client_text_frame(text))
            .await
            .unwrap();
    }

    async fn message(&mut self) -> Result<Message, MessageError> {
        let (reader, message) = self.reader.take().unwrap().next().await;
        self.reader = Some(reader);
        message
    }

    async fn json(&mut self) -> serde_json::Value {
        loop {
            match self.message().await.unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn events(count: usize, size: usize) -> Vec<NewEvent> {
    let data: Box<str> = format!("\"{}\"", "d".repeat(size)).into();
    let one = NewEvent {
        event_type: "e".to_owned(),
        data,
        timestamp: Timestamp::from_millis(0),
        link: None,
    };
    vec![one; count]
}

fn town(dir: &std::path::Path, agents: usize) -> OneTown {
    let database = Database::open_in_test(dir);
    OneTown(
        Logs::new(database, 32 << 10),
        (0..agents).map(|_| AgentId::random()).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_and_live_have_no_seam() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 1);
    let agent = feeds.1[0];
    let lifecycle = Lifecycle::new();
    let log = feeds.0.open(agent).await.unwrap();
    log.append(events(500, 200)).await.unwrap();
    let appending = lifecycle.spawn("append", {
        let log = log.clone();
        async move {
            for n in 0..200 {
                log.append(events(1 + n % 5, 200)).await.unwrap();
            }
        }
    });
    let mut clients = Vec::new();
    for after in [0u64, 0, 250, 499] {
        let mut client = Client::connect(&feeds, &lifecycle);
        assert_eq!(client.json().await["type"], "hello");
        client
            .say(&format!(
                r#"{{"type":"subscribe","agentId":"{agent}","afterEventId":{after}}}"#
            ))
            .await;
        clients.push((client, after));
    }
    appending.await.unwrap();
    let last = log.position().last_id;
    for (mut client, after) in clients {
        let subscribed = client.json().await;
        assert_eq!(subscribed["type"], "subscribed");
        assert_eq!(subscribed["recovered"], true);
        let (mut next, mut lives) = (after + 1, 0);
        while next <= last || lives == 0 {
            let frame = client.json().await;
            if frame["type"] == "live" {
                assert_eq!(frame["lastEventId"], next - 1);
                lives += 1;
            } else {
                assert_eq!(frame["id"], next);
                next += 1;
            }
        }
        assert_eq!((next, lives), (last + 1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_get_errors_and_then_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 1);
    let lifecycle = Lifecycle::new();
    let mut client = Client::connect(&feeds, &lifecycle);
    client.json().await;
    let stranger = AgentId::random();
    client
        .say(&format!(r#"{{"type":"subscribe","agentId":"{stranger}"}}"#))
        .await;
    let error = client.json().await;
    assert_eq!(
        (&error["type"], &error["code"], &error["agentId"]),
        (
            &"error".into(),
            &"unknown_agent".into(),
            &stranger.to_string().into()
        )
    );
    client.say(r#"{"type":"ping","id":"x"}"#).await;
    assert_eq!(
        client.json().await,
        serde_json::json!({"type": "pong", "id": "x"})
    );
    for _ in 1..INVALID_MAX {
        client.say("nonsense").await;
        assert_eq!(client.json().await["code"], "invalid_message");
    }
    client.say("nonsense").await;
    assert_eq!(client.message().await.unwrap(), Message::Close);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_closes() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 1);
    let lifecycle = Lifecycle::new();
    let (client, server) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(server);
    let options = Options {
        town_id: "t".to_owned(),
        subscribed: None,
        fanout: Fanout::start(Duration::ZERO, &lifecycle),
        frames: Frames::Shared,
        leave: Box::pin(std::future::pending()),
    };
    let life = lifecycle.clone();
    lifecycle.spawn("connection", async move {
        serve(reader, writer, feeds, options, life).await;
    });
    let (mut reader, mut writer) = tokio::io::split(client);
    let text = "x".repeat(MESSAGE_LEN_MAX + 1);
    writer
        .write_all(&writer::client_text_frame(&text))
        .await
        .unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    let close = close_bytes(CLOSE_TOO_LONG);
    assert!(
        all.windows(close.len()).any(|window| window == close),
        "{all:?}"
    );
}

fn close_bytes(code: u16) -> Vec<u8> {
    code.to_be_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_log_and_stopping_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 2);
    let lifecycle = Lifecycle::new();
    let mut client = Client::connect(&feeds, &lifecycle);
    client.json().await;
    let agent = feeds.1[0];
    client
        .say(&format!(r#"{{"type":"subscribe","agentId":"{agent}"}}"#))
        .await;
    assert_eq!(client.json().await["type"], "subscribed");
    assert_eq!(client.json().await["type"], "live");
    feeds.0.delete(agent).await.unwrap();
    assert_eq!(client.json().await["type"], "ended");
    lifecycle.stop();
    assert_eq!(client.message().await.unwrap(), Message::Close);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_retention_overtakes_is_told_and_goes_on_at_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 1);
    let agent = feeds.1[0];
    let lifecycle = Lifecycle::new();
    let log = feeds.0.open(agent).await.unwrap();
    // Far more than a round, so that the client is in the middle of it.
    log.append(events(2_000, 200)).await.unwrap();
    let mut client = Client::connect(&feeds, &lifecycle);
    client.json().await;
    client
        .say(&format!(
            r#"{{"type":"subscribe","agentId":"{agent}","afterEventId":0}}"#
        ))
        .await;
    assert_eq!(client.json().await["recovered"], true);
    assert_eq!(client.json().await["id"], 1);
    let keep = crate::agent_log::Keep {
        events_max: 100,
        ..crate::agent_log::Keep::for_age(Timestamp::from_millis(0), Duration::ZERO)
    };
    while log.expire(keep, |_, _| {}).await.unwrap().more {}
    let floor = log.position().first_id;
    let mut next = 2;
    let told = loop {
        let frame = client.json().await;
        if frame["type"] != "e" {
            break frame;
        }
        assert_eq!(frame["id"], next);
        next += 1;
    };
    assert!(next < floor, "it was overtaken");
    assert_eq!(
        (&told["type"], &told["recovered"]),
        (&"subscribed".into(), &false.into())
    );
    assert_eq!(told["firstEventId"], floor);
    for id in floor..=2_000 {
        assert_eq!(client.json().await["id"], id);
    }
    assert_eq!(client.json().await["type"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_join_wait_and_answers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = town(dir.path(), 1);
    let agent = feeds.1[0];
    let lifecycle = Lifecycle::new();
    let log = feeds.0.open(agent).await.unwrap();
    // Longer than any test: only an answer takes the events along.
    let mut client = Client::joining(&feeds, &lifecycle, Duration::from_secs(3600));
    client.json().await;
    client
        .say(&format!(r#"{{"type":"subscribe","agentId":"{agent}"}}"#))
        .await;
    assert_eq!(client.json().await["type"], "subscribed");
    assert_eq!(client.json().await["type"], "live");
    for _ in 0..3 {
        log.append(events(1, 10)).await.unwrap();
    }
    client.say(r#"{"type":"ping","id":1}"#).await;
    assert_eq!(client.json().await["type"], "pong");
    for id in 1..=3 {
        assert_eq!(client.json().await["id"], id);
    }
    // And without an answer when the time is over.
    let mut client = Client::joining(&feeds, &lifecycle, Duration::from_millis(1));
    client.json().await;
    client
        .say(&format!(r#"{{"type":"subscribe","agentId":"{agent}"}}"#))
        .await;
    assert_eq!(client.json().await["type"], "subscribed");
    assert_eq!(client.json().await["type"], "live");
    log.append(events(2, 10)).await.unwrap();
    assert_eq!(client.json().await["id"], 4);
    assert_eq!(client.json().await["id"], 5);
}
