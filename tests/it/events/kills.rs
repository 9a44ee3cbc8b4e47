//! SIGKILL under load, again and again: no acknowledged event is lost, none is shown twice, and no
//! id is used again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::writer::{Progress, Writer};
use crate::support::raw_socket::RawSocket;
use crate::support::server::Server;

/// How often, where the environment does not say. `GASTOWND_KILLS=200` is a thorough run.
const KILLS: usize = 5;
const AGENTS: usize = 4;
const CLIENTS: usize = 50;
/// Acknowledged batches of every writer between two kills.
const EVENTS_BETWEEN: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_resume_and_miss_nothing() {
    let kills = std::env::var("GASTOWND_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut server = Server::start(&[]);
    let town = server.town(json!({})).await;
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
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            address: server.address().to_owned(),
            path: format!("{town}/ws"),
            agent_id: agents[number % AGENTS].clone(),
            progress: progress[number % AGENTS].clone(),
            last: 0,
            epoch: Value::Null,
        };
        clients.spawn(client.run());
    }
    for _ in 0..kills {
        for shared in &progress {
            let enough = shared.acknowledged.load(Ordering::SeqCst) + EVENTS_BETWEEN;
            while shared.acknowledged.load(Ordering::SeqCst) < enough {
                check(&mut clients);
                check(&mut writers);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        server.kill();
        server.restart();
    }
    for shared in &progress {
        shared.stop.store(true, Ordering::SeqCst);
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    // A nudge for those who have caught up already: one more event for each log.
    for agent_id in &agents {
        let event = json!({"agent_id": agent_id, "event_type": "end", "data": {"n": null}});
        server.post(&format!("{rig}/agent-events"), event).await;
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

/// A task that has ended too early has failed; why is better known at once.
fn check(tasks: &mut JoinSet<()>) {
    if let Some(ended) = tasks.try_join_next() {
        ended.unwrap();
        panic!("a task ended too early");
    }
}

pub(super) async fn remote_rig(server: &Server, town: &str) -> String {
    let town_id = town.rsplit('/').next().unwrap();
    let body = json!({"town_id": town_id, "name": "r", "git_url": "https://git.invalid/o/r.git"});
    let rig = server.post("/api/users/u/rigs", body).await;
    format!("{town}/rigs/{}", rig["id"].as_str().unwrap())
}

pub(super) async fn agents(server: &Server, rig: &str, count: usize) -> Vec<String> {
    let mut agents = Vec::new();
    for number in 0..count {
        let name = format!("a{number}");
        let new = json!({"role": "polecat", "name": name, "identity": format!("{name}@here")});
        let agent = server.post(&format!("{rig}/agents"), new).await;
        agents.push(agent["id"].as_str().unwrap().to_owned());
    }
    agents
}

/// Follows one agent over all breaks.
struct Client {
    address: String,
    path: String,
    agent_id: String,
    progress: Arc<Progress>,
    /// The last id that it was shown.
    last: u64,
    epoch: Value,
}

impl Client {
    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) => return,
                // Killed; there is another server soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// Reads until the end, or until the connection is lost.
    async fn follow(&mut self) -> std::io::Result<()> {
        let mut socket = RawSocket::connect(&self.address, &self.path).await?;
        let mut subscribe =
            json!({"type": "subscribe", "agentId": self.agent_id, "afterEventId": self.last});
        if !self.epoch.is_null() {
            subscribe["epoch"] = self.epoch.clone();
        }
        socket.say(&subscribe).await?;
        let subscribed = socket.next().await?;
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        assert_eq!(
            subscribed["recovered"], true,
            "after {}: {subscribed}",
            self.last
        );
        assert!(subscribed["lastEventId"].as_u64().unwrap() >= self.last);
        self.epoch = subscribed["epoch"].clone();
        loop {
            let message = socket.next().await?;
            if message["type"] == "live" {
                continue;
            }
            self.last += 1;
            assert_eq!(message["id"], self.last, "{message}");
            if message["type"] == "end" {
                let acknowledged = self.progress.acknowledged.load(Ordering::SeqCst);
                assert_eq!(self.last, acknowledged + 1, "the end comes behind all");
                return Ok(());
            }
            assert_eq!(message["data"]["n"], self.last, "{message}");
        }
    }
}
