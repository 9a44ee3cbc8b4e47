//! Someone who watches a town and all its agents, however often the connection is lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::Town;
use super::client::PAUSE;
use crate::support::raw_socket::RawSocket;
use crate::support::server::Server;

/// The log of the town's facts.
pub(super) const FEED: &str = "town";

/// What was shown of one log.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) last: u64,
    pub(super) epoch: Value,
}

/// What a follower was shown in the end.
pub(super) struct Seen {
    pub(super) rig: String,
    /// By agent, and [`FEED`].
    pub(super) logs: BTreeMap<String, Shown>,
}

pub(super) struct Follower {
    address: String,
    path: String,
    seen: Seen,
    /// Who has a bead on the hook, by what the facts say.
    hooks: BTreeMap<String, String>,
    goes_on: Arc<AtomicBool>,
}

impl Follower {
    pub(super) fn new(server: &Server, town: &Town, goes_on: &Arc<AtomicBool>) -> Self {
        Self {
            address: server.address().to_owned(),
            path: format!("{}/ws", town.path),
            seen: Seen {
                rig: town.rig.clone(),
                logs: BTreeMap::from([(FEED.to_owned(), Shown::default())]),
            },
            hooks: BTreeMap::new(),
            goes_on: Arc::clone(goes_on),
        }
    }

    /// Follows until it is told to stop.
    pub(super) async fn run(mut self) -> Seen {
        while self.goes_on.load(Ordering::SeqCst) {
            // A lost connection is the point of the exercise.
            let _ = self.follow().await;
            tokio::time::sleep(PAUSE).await;
        }
        self.catch_up().await.expect("the server stays");
        self.seen
    }

    /// Reads every log to its end.
    async fn catch_up(&mut self) -> io::Result<()> {
        let mut socket = RawSocket::connect(&self.address, &self.path).await?;
        let mut behind: Vec<String> = self.seen.logs.keys().cloned().collect();
        for log in &behind {
            self.subscribe(&mut socket, log).await?;
        }
        while !behind.is_empty() {
            let message = socket.next().await?;
            let log = message["agentId"].as_str().unwrap_or(FEED).to_owned();
            match message["type"].as_str() {
                Some("subscribed") => self.confirmed(&log, &message),
                Some("live") => behind.retain(|other| *other != log),
                _ => {
                    self.event(&log, &message);
                }
            }
        }
        Ok(())
    }

    async fn follow(&mut self) -> io::Result<()> {
        let mut socket = RawSocket::connect(&self.address, &self.path).await?;
        let known: Vec<String> = self.seen.logs.keys().cloned().collect();
        for log in known {
            self.subscribe(&mut socket, &log).await?;
        }
        while self.goes_on.load(Ordering::SeqCst) {
            let Ok(message) = tokio::time::timeout(PAUSE * 5, socket.next()).await else {
                // Reading was cut off, maybe in the middle of a message.
                return Ok(());
            };
            let message = message?;
            let log = message["agentId"].as_str().unwrap_or(FEED).to_owned();
            match message["type"].as_str() {
                Some("subscribed") => self.confirmed(&log, &message),
                Some("live") => {}
                _ if message.get("id").is_some() => {
                    let new_agent = self.event(&log, &message);
                    if let Some(agent_id) = new_agent {
                        self.seen.logs.entry(agent_id.clone()).or_default();
                        self.subscribe(&mut socket, &agent_id).await?;
                    }
                }
                _ => panic!("{message}"),
            }
        }
        Ok(())
    }

    async fn subscribe(&self, socket: &mut RawSocket, log: &str) -> io::Result<()> {
        let shown = &self.seen.logs[log];
        let mut message = match log {
            FEED => json!({"type": "subscribe", "topic": "town"}),
            agent_id => json!({"type": "subscribe", "agentId": agent_id}),
        };
        message["afterEventId"] = shown.last.into();
        if !shown.epoch.is_null() {
            message["epoch"] = shown.epoch.clone();
        }
        socket.say(&message).await
    }

    fn confirmed(&mut self, log: &str, message: &Value) {
        let shown = self.seen.logs.get_mut(log).unwrap();
        assert_eq!(
            message["recovered"], true,
            "after {}: {message}",
            shown.last
        );
        assert!(
            message["lastEventId"].as_u64() >= Some(shown.last),
            "{message}"
        );
        if !shown.epoch.is_null() {
            assert_eq!(shown.epoch, message["epoch"], "{message}");
        }
        shown.epoch = message["epoch"].clone();
    }

    /// Takes in an event; an agent that it is the first to name.
    fn event(&mut self, log: &str, event: &Value) -> Option<String> {
        let shown = self.seen.logs.get_mut(log).unwrap();
        assert_eq!(event["id"], shown.last + 1, "no gap and no repeat: {event}");
        shown.last += 1;
        if log != FEED {
            return None;
        }
        self.fact(event);
        let agent_id = event["data"]["agent_id"].as_str()?;
        let is_new = event["type"] == "agent.created" && !self.seen.logs.contains_key(agent_id);
        is_new.then(|| agent_id.to_owned())
    }

    /// A bead is on one hook at a time.
    fn fact(&mut self, fact: &Value) {
        let text = |name: &str| fact["data"][name].as_str().map(str::to_owned);
        match fact["type"].as_str() {
            Some("bead.hooked") => {
                let (bead, agent) = (text("bead_id").unwrap(), text("agent_id").unwrap());
                let other = self.hooks.insert(bead, agent);
                assert_eq!(other, None, "it was on another hook: {fact}");
            }
            Some("bead.unhooked") => {
                let holder = self.hooks.remove(&text("bead_id").unwrap());
                assert_eq!(holder, text("agent_id"), "{fact}");
            }
            _ => {}
        }
    }
}
