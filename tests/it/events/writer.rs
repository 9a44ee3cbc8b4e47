//! The one writer of an agent's log: event `n` carries the number `n`, so that whoever reads can
//! tell whether an id still has the content that it was given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::server::exchange_on;

/// What a test and a writer share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last id that was acknowledged.
    pub(crate) acknowledged: AtomicU64,
    pub(crate) stop: AtomicBool,
}

pub(crate) struct Writer {
    pub(crate) address: String,
    /// `/api/towns/T/rigs/R`.
    pub(crate) rig: String,
    pub(crate) agent_id: String,
    pub(crate) progress: Arc<Progress>,
}

impl Writer {
    /// Writes until it is told to stop or the agent is gone.
    pub(crate) async fn run(self) {
        let mut next = 1u64;
        for len in [1u64, 7, 2, 40, 1, 19].into_iter().cycle() {
            if self.progress.stop.load(Ordering::SeqCst) {
                return;
            }
            let events: Vec<Value> = (next..next + len).map(|n| self.event(n)).collect();
            let path = format!("{}/agent-events/batch", self.rig);
            match self
                .exchange("POST", &path, json!({"events": events}))
                .await
            {
                Some((StatusCode::CREATED, answer)) => {
                    let data = &answer["data"];
                    assert_eq!(data["first_id"], next, "{answer}");
                    next += len;
                    assert_eq!(data["last_id"], next - 1, "{answer}");
                }
                Some((StatusCode::NOT_FOUND, _)) => return,
                // The server is ending, or the disk is full.
                Some((StatusCode::SERVICE_UNAVAILABLE, _)) | None => {
                    let Some(stored) = self.stored_since(next - 1).await else {
                        return;
                    };
                    assert!(stored == 0 || stored == len, "{stored} of a batch of {len}");
                    next += stored;
                }
                other => panic!("{other:?}"),
            }
            self.progress.acknowledged.store(next - 1, Ordering::SeqCst);
        }
    }

    fn event(&self, n: u64) -> Value {
        // Now and then one that does not fit into a row.
        let size = if n.is_multiple_of(97) { 9_000 } else { 120 };
        json!({
            "agent_id": self.agent_id, "event_type": "note",
            "data": {"n": n, "pad": "p".repeat(size)},
        })
    }

    /// Events behind that id, asked until somebody answers; `None` if the agent is gone.
    async fn stored_since(&self, last: u64) -> Option<u64> {
        let path = format!(
            "{}/agents/{}/events?after_id={last}&limit=1000",
            self.rig, self.agent_id
        );
        loop {
            match self.exchange("GET", &path, Value::Null).await {
                Some((StatusCode::OK, answer)) => {
                    let events: VecDeque<&Value> =
                        answer["data"].as_array().unwrap().iter().collect();
                    for (event, n) in events.iter().zip(last + 1..) {
                        assert_eq!((&event["id"], &event["data"]["n"]), (&json!(n), &json!(n)));
                    }
                    return Some(events.len() as u64);
                }
                Some((StatusCode::NOT_FOUND, _)) => return None,
                _ if self.progress.stop.load(Ordering::SeqCst) => return None,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// `None` if the server went away.
    async fn exchange(&self, method: &str, path: &str, body: Value) -> Option<(StatusCode, Value)> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let (status, _, answer) = exchange_on(stream, &self.address, method, path, &[], body)
            .await
            .ok()?;
        Some((status, serde_json::from_slice(&answer).ok()?))
    }
}
