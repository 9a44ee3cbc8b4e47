//! The HTTP connections of a client to its agent server.
//!
//! Calls are few and small, so there is no pool with policies: a finished call leaves its
//! connection for the next one, and one that the server closed meanwhile is replaced.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Error;
use crate::lifecycle::Lifecycle;

/// How many idle connections are kept: more than that are rarely in use at once.
const IDLE_MAX: usize = 4;

/// How long an idle connection is used again: well below the 5 s after which the servers close it,
/// so that no call is sent into a connection that is being closed.
const IDLE_REUSE: Duration = Duration::from_secs(2);

/// The largest answer that is read: a very long conversation.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// How much of a refusal's text goes into an error.
const REFUSAL_TEXT_MAX: usize = 2048;

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query, escaped.
    pub(super) target: String,
    /// A JSON body.
    pub(super) body: Option<Bytes>,
    /// How long the whole call may take.
    pub(super) limit: Duration,
}

impl Call {
    /// What the call is named in errors: method and path.
    fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

/// The connections to one agent server; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    authority: String,
    /// A secret, so `Inner` shows nothing of itself.
    authorization: String,
    idle: Mutex<Vec<Idle>>,
    lifecycle: Lifecycle,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

type Connection = SendRequest<Full<Bytes>>;

impl Connections {
    /// `authority` is `host:port`; `authorization` is sent with every call.
    pub(super) fn new(authority: String, authorization: String, lifecycle: &Lifecycle) -> Self {
        Self(Arc::new(Inner {
            authority,
            authorization,
            idle: Mutex::new(Vec::new()),
            lifecycle: lifecycle.clone(),
        }))
    }

    /// Makes a call and reads the whole answer. Every status outside 2xx is [`Error::Refused`].
    pub(super) async fn call(&self, call: Call) -> Result<Bytes, Error> {
        let name = call.name();
        let limit = call.limit;
        timeout(limit, self.exchange(call))
            .await
            .unwrap_or(Err(Error::TimedOut { call: name, limit }))
    }

    /// Makes a call whose answer has no end. Only its beginning is limited in time.
    pub(super) async fn open(&self, call: Call) -> Result<Incoming, Error> {
        let name = call.name();
        let limit = call.limit;
        let opened = async {
            let (response, _connection) = self.send(&call).await?;
            if response.status() == StatusCode::OK {
                return Ok(response.into_body());
            }
            let status = response.status();
            Err(refused(
                &call,
                status,
                &read(response.into_body(), &call).await?,
            ))
        };
        timeout(limit, opened)
            .await
            .unwrap_or(Err(Error::TimedOut { call: name, limit }))
    }

    async fn exchange(&self, call: Call) -> Result<Bytes, Error> {
        let (response, connection) = self.send(&call).await?;
        let status = response.status();
        let body = read(response.into_body(), &call).await?;
        self.keep(connection);
        if status.is_success() {
            Ok(body)
        } else {
            Err(refused(&call, status, &body))
        }
    }

    async fn send(&self, call: &Call) -> Result<(Response<Incoming>, Connection), Error> {
        let mut request = self.request(call)?;
        while let Some(mut connection) = self.take_idle() {
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // Closed before the request went out: it is safe to send it on another.
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(call, io::Error::other(error.into_error()))),
                },
            }
        }
        let mut connection = self
            .connect()
            .await
            .map_err(|error| unreachable(call, error))?;
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| unreachable(call, io::Error::other(error)))?;
        Ok((response, connection))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.target)
            .header(HOST, &self.0.authority)
            .header(AUTHORIZATION, &self.0.authorization)
            // Tool servers refuse whoever does not accept both.
            .header(ACCEPT, "application/json, text/event-stream");
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Error::BadAnswer {
                call: call.name(),
                reason: format!("the call can't be made: {error}"),
            })
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&self.0.authority).await?;
        // Requests are single small writes; waiting to fill a packet only delays them.
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        self.0
            .lifecycle
            .spawn_detached("agent server connection", async move {
                // What goes wrong here goes wrong for the call in progress too, which reports it.
                let _ = connection.await;
            });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|idle| idle.since.elapsed() < IDLE_REUSE);
        idle.pop().map(|idle| idle.connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if !connection.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0
            .idle
            .lock()
            .expect("no code panics while it holds the connections")
    }
}

/// The `Authorization` of a user with a password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

async fn read(body: Incoming, call: &Call) -> Result<Bytes, Error> {
    match Limited::new(body, ANSWER_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(unreachable(call, io::Error::other(error))),
    }
}

fn unreachable(call: &Call, source: io::Error) -> Error {
    Error::Unreachable {
        call: call.name(),
        source,
    }
}

fn refused(call: &Call, status: StatusCode, body: &[u8]) -> Error {
    let body = &body[..body.len().min(REFUSAL_TEXT_MAX)];
    Error::Refused {
        call: call.name(),
        status: status.as_u16(),
        body: String::from_utf8_lossy(body).trim().to_owned(),
    }
}
