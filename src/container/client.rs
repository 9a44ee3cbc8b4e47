//! The server's requests to a container's control server, over its unix socket or TCP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::config::ResolvedTownConfig;
use crate::lifecycle::Lifecycle;

use super::protocol::{CONFIG_HEADER, DRAINING_CODE, Refusal};
use super::wire::{self, Endpoint, ReadHalf, Stream, WriteHalf};

/// The control server answers at once; a longer silence means that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a container did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No container process answers.
    #[error("the container is not running")]
    Asleep,
    /// It takes nothing new, because it ends as soon as its work is saved.
    #[error("the container is draining")]
    Draining,
    /// It refused.
    #[error("the container answered {status}: {error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own words.
        error: String,
    },
    /// It did not answer in time.
    #[error("the container did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection broke.
    #[error("the connection to the container broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(error.into())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    lifecycle: Lifecycle,
}

/// An open WebSocket to the container: what came behind the handshake, and the two halves.
pub(super) struct Link {
    pub(super) read_ahead: Bytes,
    pub(super) reader: ReadHalf,
    pub(super) writer: WriteHalf,
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, lifecycle: Lifecycle) -> Self {
        Self {
            endpoint,
            lifecycle,
        }
    }

    /// A connection, and the beginning of a request on it.
    async fn connect(&self) -> Result<(TokioIo<Stream>, hyper::http::request::Builder), CallError> {
        let (stream, token) =
            self.endpoint
                .connect()
                .await
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::Asleep,
                    _ => CallError::broken(error),
                })?;
        let mut request = Request::builder().header("host", "container");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.authorization());
        }
        Ok((TokioIo::new(stream), request))
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        config: Option<&ResolvedTownConfig>,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        let exchange = self.exchange(method, path, config, body);
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| CallError::TimedOut)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        config: Option<&ResolvedTownConfig>,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        let (stream, request) = self.connect().await?;
        let mut request = request.method(method).uri(path);
        if let Some(config) = config {
            request = request.header(CONFIG_HEADER, config.to_header().into_bytes());
        }
        let request = request
            .body(Full::<Bytes>::from(body))
            .map_err(CallError::broken)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(CallError::broken)?;
        self.lifecycle
            .spawn_detached("container request", async move {
                // What went wrong is told to the one who asked.
                let _ = connection.await;
            });
        let response = sender
            .send_request(request)
            .await
            .map_err(CallError::broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(CallError::Broken)?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let status = status.as_u16();
        Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) if refusal.code == DRAINING_CODE => CallError::Draining,
            Ok(Refusal { error, .. }) => CallError::Refused { status, error },
            Err(_) => CallError::Refused {
                status,
                error: String::from_utf8_lossy(&body).into_owned(),
            },
        })
    }

    /// Opens the WebSocket.
    pub(super) async fn link(&self) -> Result<Link, CallError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.upgrade())
            .await
            .map_err(|_| CallError::TimedOut)?
    }

    async fn upgrade(&self) -> Result<Link, CallError> {
        let (stream, request) = self.connect().await?;
        let request = request
            .uri("/ws")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header(
                "sec-websocket-key",
                fastwebsockets::handshake::generate_key(),
            )
            .body(Full::<Bytes>::default())
            .map_err(CallError::broken)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(CallError::broken)?;
        self.lifecycle.spawn_detached("container link", async move {
            let _ = connection.with_upgrades().await;
        });
        let response = sender
            .send_request(request)
            .await
            .map_err(CallError::broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status().as_u16();
            return Err(CallError::Refused {
                status,
                error: "no WebSocket".to_owned(),
            });
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(CallError::broken)?;
        let (read_ahead, reader, writer) = wire::upgraded(upgraded)
            .ok_or_else(|| CallError::broken("not a connection of ours"))?;
        Ok(Link {
            read_ahead,
            reader,
            writer,
        })
    }
}
