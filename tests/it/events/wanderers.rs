//! Clients that subscribe, move, leave and come back at random while events come, retention works
//! and an agent is deleted: each is shown exactly the log from its position on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::kills::{agents, remote_rig};
use super::writer::{Progress, Writer};
use crate::support::dice::Dice;
use crate::support::raw_socket::RawSocket;
use crate::support::server::Server;

const AGENTS: usize = 4;
const CLIENTS: usize = 24;
/// What each client does before it follows everything to the end.
const STEPS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn each_is_shown_exactly_the_log_from_its_position_on() {
    let server = Server::start(&["--stream-tail-per-agent", "64KiB"]);
    // The smallest bounds, so that clients are overtaken.
    let config = json!({"retention": {"events_max": 1000, "bytes_max": 2 << 20}});
    let town = server.town(config).await;
    let rig = remote_rig(&server, &town).await;
    let agents = agents(&server, &rig, AGENTS).await;
    let mut writers = JoinSet::new();
    let mut progress = Vec::new();
    for agent_id in &agents {
        let shared: Arc<Progress> = Arc::default();
        progress.push(shared.clone());
        let writer = Writer {
            address: server.address().to_owned(),
            rig: rig.clone(),
            agent_id: agent_id.clone(),
            progress: shared,
        };
        writers.spawn(writer.run());
    }
    let seed = u64::from(std::process::id());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS as u64 {
        let client = Wanderer {
            address: server.address().to_owned(),
            path: format!("{town}/ws"),
            agents: agents.clone(),
            dice: Dice::new(seed * 1000 + number),
            cursors: HashMap::new(),
            overtaken: 0,
        };
        clients.spawn(client.run());
    }
    // In the middle of it all one agent is deleted.
    while progress[0].acknowledged.load(Ordering::SeqCst) < 1500 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let deleted = format!("{rig}/agents/{}", agents[0]);
    server.must("DELETE", &deleted, Value::Null).await;
    let mut overtaken = 0;
    while let Some(ended) = clients.join_next().await {
        overtaken += ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    for shared in &progress {
        shared.stop.store(true, Ordering::SeqCst);
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    // Retention was really at work.
    let kept = format!("{rig}/agents/{}/events?limit=1", agents[1]);
    let floor = server.get(&kept).await[0]["id"].as_u64().unwrap();
    assert!(
        floor > 1 && overtaken > 0,
        "floor {floor}, {overtaken} overtaken"
    );
}

/// What a client knows of one log.
#[derive(Clone, Debug)]
struct Cursor {
    epoch: Value,
    /// The last id shown, or asked for.
    last: u64,
}

struct Wanderer {
    address: String,
    path: String,
    agents: Vec<String>,
    dice: Dice,
    cursors: HashMap<String, Cursor>,
    /// How often it was set to the floor.
    overtaken: usize,
}

impl Wanderer {
    /// How often it was told that it starts at the floor.
    async fn run(mut self) -> usize {
        let mut socket = self.connect().await;
        let mut followed: HashMap<String, Expected> = HashMap::new();
        for _ in 0..STEPS {
            let chosen = self.dice.roll(AGENTS);
            let agent = self.agents[chosen].clone();
            match self.dice.roll(8) {
                0 => {
                    // Drops everything and comes back where it was.
                    socket = self.connect().await;
                    let left: Vec<String> = followed.keys().cloned().collect();
                    followed.clear();
                    for agent in left {
                        self.resume(&mut socket, &agent, &mut followed).await;
                    }
                }
                1 => {
                    followed.remove(&agent);
                    let leave = json!({"type": "unsubscribe", "agentId": agent});
                    socket.say(&leave).await.unwrap();
                    // What was on its way is passed over.
                    self.settle(&mut socket, &mut followed, &agent).await;
                }
                2 => {
                    let after = self.dice.roll(2000) as u64;
                    self.subscribe(&mut socket, &agent, after, None, &mut followed)
                        .await;
                }
                3 => {
                    self.subscribe(&mut socket, &agent, 0, None, &mut followed)
                        .await;
                }
                _ => {
                    if !followed.contains_key(&agent) {
                        self.resume(&mut socket, &agent, &mut followed).await;
                    }
                }
            }
            for _ in 0..self.dice.roll(60) {
                if followed.values().all(|expected| expected.ended) {
                    break;
                }
                let message = socket.next().await.unwrap();
                self.take(&message, &mut followed, None);
            }
        }
        self.overtaken
    }

    async fn connect(&self) -> RawSocket {
        RawSocket::connect(&self.address, &self.path).await.unwrap()
    }

    async fn resume(
        &mut self,
        socket: &mut RawSocket,
        agent: &str,
        followed: &mut HashMap<String, Expected>,
    ) {
        let cursor = self.cursors.get(agent).cloned();
        let (after, epoch) = cursor.map_or((0, None), |cursor| (cursor.last, Some(cursor.epoch)));
        self.subscribe(socket, agent, after, epoch, followed).await;
    }

    async fn subscribe(
        &mut self,
        socket: &mut RawSocket,
        agent: &str,
        after: u64,
        epoch: Option<Value>,
        followed: &mut HashMap<String, Expected>,
    ) {
        let mut message = json!({"type": "subscribe", "agentId": agent, "afterEventId": after});
        if let Some(epoch) = epoch {
            message["epoch"] = epoch;
        }
        socket.say(&message).await.unwrap();
        // Until it is confirmed, events are of the former subscription.
        let former = followed.get(agent).and_then(|expected| expected.next);
        let expected = Expected {
            asked: Some(after),
            next: former,
            ended: false,
        };
        followed.insert(agent.to_owned(), expected);
        self.settle(socket, followed, agent).await;
        if let Some(expected) = followed.get_mut(agent) {
            expected.asked = None;
        }
    }

    /// Takes what comes until the server has dealt with all that was said.
    async fn settle(
        &mut self,
        socket: &mut RawSocket,
        followed: &mut HashMap<String, Expected>,
        left: &str,
    ) {
        socket.say(&json!({"type": "ping", "id": 1})).await.unwrap();
        loop {
            let message = socket.next().await.unwrap();
            if message["type"] == "pong" {
                return;
            }
            self.take(&message, followed, Some(left));
        }
    }

    /// Checks one message.
    fn take(
        &mut self,
        message: &Value,
        followed: &mut HashMap<String, Expected>,
        left: Option<&str>,
    ) {
        let agent = message["agentId"]
            .as_str()
            .unwrap_or_else(|| panic!("{message}"));
        let kind = message["type"].as_str().unwrap();
        let Some(expected) = followed.get_mut(agent) else {
            assert_eq!(left, Some(agent), "nobody asked for {message}");
            return;
        };
        match kind {
            "subscribed" => {
                let first = message["firstEventId"].as_u64().unwrap();
                let recovered = message["recovered"].as_bool().unwrap();
                // To be set to the floor may be the answer, or still be meant for the former
                // subscription, with the answer behind it.
                expected.next = Some(match (recovered, expected.asked) {
                    (true, Some(after)) => after + 1,
                    (false, _) => first,
                    (true, None) => panic!("nobody asked: {message}"),
                });
                if recovered {
                    expected.asked = None;
                }
                if recovered {
                    assert!(expected.next >= Some(first), "{message}");
                }
                let (epoch, last) = (message["epoch"].clone(), expected.next.unwrap() - 1);
                self.cursors
                    .insert(agent.to_owned(), Cursor { epoch, last });
                self.overtaken += usize::from(!recovered);
            }
            "live" => {
                let last = message["lastEventId"].as_u64().unwrap();
                assert_eq!(expected.next, Some(last + 1), "{message}");
            }
            "ended" => expected.ended = true,
            "error" => {
                assert_eq!(message["code"], "unknown_agent", "{message}");
                expected.ended = true;
            }
            "note" => {
                let id = message["id"].as_u64().unwrap();
                assert_eq!(expected.next, Some(id), "{message}");
                assert_eq!(message["data"]["n"], id, "{message}");
                expected.next = Some(id + 1);
                self.cursors.get_mut(agent).unwrap().last = id;
            }
            other => panic!("{other}: {message}"),
        }
    }
}

/// What a client expects of one subscription.
#[derive(Debug)]
struct Expected {
    /// What it asked for and was not confirmed yet.
    asked: Option<u64>,
    /// The next id, once it is known.
    next: Option<u64>,
    ended: bool,
}
