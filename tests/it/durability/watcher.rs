//! A client that notes what it is shown, and comes back where it was.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::server::{Events, Server};

/// A client of the WebSocket that remembers all it was shown.
pub(super) struct Watcher {
    /// None before it has subscribed.
    events: Option<Events>,
    pub(super) subject: Value,
    pub(super) epoch: Value,
    pub(super) seen: Vec<Value>,
}

impl Watcher {
    /// From the beginning on.
    pub(super) async fn begin(server: &Server, town: &str, subject: Value) -> Self {
        let mut watcher = Self {
            events: None,
            subject,
            epoch: Value::Null,
            seen: Vec::new(),
        };
        let all = json!({"afterEventId": 0});
        watcher.subscribe(server, town, all).await;
        watcher
    }

    /// After the last event that it was shown.
    pub(super) async fn resume(&mut self, server: &Server, town: &str) {
        let (epoch, after) = (self.epoch.clone(), self.seen.len());
        let rest = json!({"afterEventId": after, "epoch": epoch});
        self.subscribe(server, town, rest).await;
        assert_eq!(self.epoch, epoch);
    }

    async fn subscribe(&mut self, server: &Server, town: &str, mut message: Value) {
        let mut stream = server.stream(town).await;
        message["type"] = json!("subscribe");
        for (name, value) in self.subject.as_object().unwrap() {
            message[name] = value.clone();
        }
        stream.say(message).await;
        let answer = stream.next().await.unwrap();
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!(answer["recovered"], true, "{answer}");
        self.epoch = answer["epoch"].clone();
        self.events = Some(stream.events());
    }

    /// Reads on; `None` if the connection is gone.
    async fn next(&mut self) -> Option<&Value> {
        let event = self.events.as_mut()?.next().await?;
        self.seen.push(event);
        self.seen.last()
    }

    /// Reads on until new events of these types came, in whatever order.
    pub(super) async fn until_types(&mut self, types: &[&str]) {
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        for event_type in types {
            *missing.entry(event_type).or_default() += 1;
        }
        while !missing.is_empty() {
            let event = self.next().await.expect("the stream goes on");
            let event_type = event["type"].as_str().unwrap();
            if let Some(count) = missing.get_mut(event_type) {
                *count -= 1;
            }
            missing.retain(|_, count| *count > 0);
        }
    }

    /// Reads on until an event of this type came, if none did.
    pub(super) async fn until_seen(&mut self, event_type: &str) {
        while !self.seen.iter().any(|event| event["type"] == event_type) {
            self.next().await.expect("the stream goes on");
        }
    }

    pub(super) async fn until_id(&mut self, id: u64) {
        while (self.seen.len() as u64) < id {
            self.next().await.expect("the stream goes on");
        }
    }

    /// Takes what is still on its way from a server that was killed.
    pub(super) async fn until_gone(&mut self) {
        while self.next().await.is_some() {}
    }
}
