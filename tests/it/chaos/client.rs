//! A client that outlives servers.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::server::{PATIENCE, Server, exchange_on};

/// Between two tries, and two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Client {
    address: String,
}

impl Client {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            address: server.address().to_owned(),
        }
    }

    /// Asks until a server answers that can. What changes something carries a key, so that it is
    /// done once however often it is asked for.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let key = uuid::Uuid::new_v4().to_string();
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.try_once(method, path, &key, body).await {
                Some((StatusCode::SERVICE_UNAVAILABLE, _)) | None => {
                    assert!(Instant::now() < limit, "nobody answers {method} {path}");
                    tokio::time::sleep(PAUSE).await;
                }
                Some(answer) => return answer,
            }
        }
    }

    /// The data of what must be there.
    pub(super) async fn get(&self, path: &str) -> Value {
        let (status, mut answer) = self.ask("GET", path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer["data"].take()
    }

    /// All items of a list.
    pub(super) async fn list(&self, path: &str) -> Vec<Value> {
        const PAGE: usize = 1000;
        let mut items = Vec::new();
        loop {
            let page = format!("{path}&limit={PAGE}&offset={}", items.len());
            let page = self.get(&page).await;
            let page = page.as_array().unwrap();
            items.extend(page.iter().cloned());
            if page.len() < PAGE {
                return items;
            }
        }
    }

    async fn try_once(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Option<(StatusCode, Value)> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let headers: &[(&str, &str)] = match method {
            "GET" => &[],
            _ => &[("idempotency-key", key)],
        };
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let answer = exchange_on(stream, &self.address, method, path, headers, body).await;
        let (status, _, body) = answer.ok()?;
        let value = serde_json::from_slice(&body);
        Some((
            status,
            value.unwrap_or_else(|error| panic!("{path}: {error}")),
        ))
    }
}
