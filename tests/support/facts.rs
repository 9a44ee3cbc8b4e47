//! A town's facts as a client of its WebSocket sees them.

use serde_json::{Value, json};

use super::server::{Events, Server};

/// The facts of a town from the first one on.
pub(crate) struct Facts {
    events: Events,
    seen: Vec<Value>,
}

impl Facts {
    pub(crate) async fn of(server: &Server, town: &str) -> Self {
        let mut stream = server.stream(town).await;
        stream
            .say(json!({"type": "subscribe", "topic": "town", "afterEventId": 0}))
            .await;
        Self {
            events: stream.events(),
            seen: Vec::new(),
        }
    }

    /// The first fact of this type that satisfies `wanted`, whether it is to come or has come.
    pub(crate) async fn until(
        &mut self,
        fact_type: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut next = 0;
        loop {
            while next == self.seen.len() {
                let fact = self.events.next().await.expect("the stream goes on");
                let last = self.seen.len() as u64;
                assert_eq!(fact["id"], last + 1, "no gap and no repeat");
                assert_eq!(fact["topic"], "town");
                self.seen.push(fact);
            }
            let fact = &self.seen[next];
            if fact["type"] == fact_type && wanted(&fact["data"]) {
                return fact["data"].clone();
            }
            next += 1;
        }
    }

    /// How many of the facts that came so far hold these words anywhere.
    pub(crate) fn count_text(&self, text: &str) -> usize {
        let facts = self.seen.iter();
        facts.filter(|fact| fact.to_string().contains(text)).count()
    }

    /// How many of the facts that came so far are of this type and satisfy `wanted`.
    pub(crate) fn count(&self, fact_type: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        let facts = self.seen.iter();
        facts
            .filter(|fact| fact["type"] == fact_type && wanted(&fact["data"]))
            .count()
    }
}
