//! Accepting connections, and one request from match to answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::AgentRole;

use super::auth::{Principal, Scope};
use super::context::{self, Context, State};
use super::error::ApiError;
use super::once;
use super::requests;
use super::routes::{self, Route};

/// A client has this long to send a request's head, so that silent connections don't pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// And this long for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a body that is too large so much more is read before the answer, and for so long.
const DISCARD_BYTES_MAX: usize = 32 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after the system refused a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are told at once that there are too many; beyond them, they are just closed.
const REFUSALS_MAX: usize = 64;
/// And each has this long to send a request and hear that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the connections that the server takes. A request carries it, so that a WebSocket, which
/// outlives the HTTP connection that it began as, goes on counting.
#[derive(Clone, Debug)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until the lifecycle stops; requests under way are finished by the lifecycle's drain.
pub async fn serve(listener: Listener, state: Arc<State>, connections_max: usize) {
    let connections = Arc::new(Semaphore::new(connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut is_full = false;
    loop {
        let accepted = tokio::select! {
            () = state.lifecycle.stopping() => return,
            accepted = listener.listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            if !is_full {
                tracing::warn!(
                    connections_max,
                    "connections are refused: there are too many"
                );
            }
            is_full = true;
            if let Ok(refusal) = refusals.clone().try_acquire_owned() {
                state.lifecycle.spawn("refusal", async move {
                    refuse(stream).await;
                    drop(refusal);
                });
            }
            continue;
        };
        is_full = false;
        let place = Place {
            _permit: Arc::new(permit),
        };
        let connection = connect(stream, state.clone(), place);
        state.lifecycle.spawn("connection", connection);
    }
}

async fn connect(stream: TcpStream, state: Arc<State>, place: Place) {
    // Frames and answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let lifecycle = state.lifecycle.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        answer(state.clone(), request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = lifecycle.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers the first request, whatever it is, with why it can't be answered.
async fn refuse(stream: TcpStream) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| async {
        discard(request.into_body()).await;
        let mut response = ApiError::too_many_connections().into_response();
        add_headers(&mut response);
        Ok::<_, Infallible>(response)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // One that does not even ask is cut off.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection).await;
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let begun = Instant::now();
    let found = routes::find(&method, &path);
    let route = found.as_ref().map(|(route, _)| *route);
    let mut response = match carry_out(state, request, found).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    requests::answered(route, response.status().as_u16(), begun.elapsed());
    add_headers(&mut response);
    Ok(response)
}

/// What every answer tells a browser.
fn add_headers(response: &mut Response<Full<Bytes>>) {
    let headers = response.headers_mut();
    for (name, value) in [
        (hyper::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (hyper::header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

async fn carry_out(
    state: Arc<State>,
    request: Request<Incoming>,
    found: Option<(&'static Route, routes::Params)>,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let (head, body) = request.into_parts();
    let principal = state.authority.identify(&head.headers);
    let Some((route, params)) = found else {
        // Who may not look must not learn which routes there are.
        return Err(if principal.is_none() {
            ApiError::unauthorized()
        } else {
            ApiError::no_route()
        });
    };
    authorize(&state, route, principal.as_ref(), &params).await?;
    let body = read_body(body, state.body_max).await?;
    let now = state.clock.now();
    let once = once::of_request(&head, &body, principal.as_ref(), now)?;
    let request = context::Incoming {
        principal,
        params,
        head: Request::from_parts(head, ()),
        body,
        once,
    };
    (route.handler)(Context::new(state, request)).await
}

/// Checks the credentials against the route's scope.
async fn authorize(
    state: &State,
    route: &Route,
    principal: Option<&Principal>,
    params: &routes::Params,
) -> Result<(), ApiError> {
    if route.scope == Scope::Public {
        return Ok(());
    }
    let claims = match principal {
        None => return Err(ApiError::unauthorized()),
        Some(Principal::Admin) => return Ok(()),
        Some(Principal::Agent(claims)) => claims,
    };
    // The token is good while the agent lives.
    let town = state
        .towns
        .get(claims.town_id)
        .map_err(|_| ApiError::unauthorized())?;
    town.any_agent(claims.agent_id)
        .await
        .map_err(|_| ApiError::unauthorized())?;
    let is = |name: &str, own: Option<String>| {
        let param = params.iter().find(|(other, _)| *other == name);
        param.is_none_or(|(_, value)| own.is_some_and(|own| own.eq_ignore_ascii_case(value)))
    };
    let own_place = is("town", Some(claims.town_id.to_string()))
        && is("rig", claims.rig_id.map(|rig_id| rig_id.to_string()));
    let allowed = match route.scope {
        Scope::Public => true,
        Scope::Admin => false,
        Scope::Rig => own_place,
        Scope::Mayor => {
            claims.role == AgentRole::Mayor && is("town", Some(claims.town_id.to_string()))
        }
        Scope::Agent => own_place && is("agent", Some(claims.agent_id.to_string())),
    };
    if allowed {
        Ok(())
    } else {
        Err(ApiError::forbidden(
            "an agent's token opens only the agent's own routes",
        ))
    }
}

async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let limited = Limited::new(&mut body, limit);
    match tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(ApiError::too_large("the body", limit))
        }
        Ok(Err(_)) | Err(_) => Err(ApiError::unreadable_body()),
    }
}

/// Reads on for a while and keeps nothing. A connection that is closed with bytes unread is reset,
/// and the client would see that instead of the answer.
async fn discard(mut body: Incoming) {
    let reading = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // One that goes on for longer is cut off.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}
