//! The WebSocket of a town.

use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::agent_log::Subject;
use crate::http::auth::{self, PROTOCOL};
use crate::http::context::{Context, Reply};
use crate::http::error::ApiError;
use crate::http::listener::Place;
use crate::stream::{self, Frames, Options};

pub(in crate::http) async fn town(context: Context) -> Reply {
    open(context, None, Frames::Shared)
}

/// The same socket with one agent subscribed from the beginning, for older clients.
pub(in crate::http) async fn agent(context: Context) -> Reply {
    let agent_id = context.agent_id()?;
    context.town()?.any_agent(agent_id).await?;
    open(context, Some(Subject::Agent(agent_id)), Frames::WithEvent)
}

fn open(mut context: Context, subscribed: Option<Subject>, frames: Frames) -> Reply {
    let town = context.town()?;
    if !fastwebsockets::upgrade::is_upgrade_request(&context.head) {
        return Err(ApiError::not_websocket());
    }
    let offers_ours = auth::protocols(context.head.headers()).any(|name| name == PROTOCOL);
    let upgraded = hyper::upgrade::on(&mut context.head);
    let (head, _) = fastwebsockets::upgrade::upgrade(&mut context.head)
        .map_err(|_| ApiError::not_websocket())?;
    let mut response = Response::from_parts(head.into_parts().0, Full::default());
    if offers_ours {
        let protocol = HeaderValue::from_static(PROTOCOL);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let place = context.head.extensions().get::<Place>().cloned();
    let lifecycle = context.state()?.lifecycle.clone();
    let life = lifecycle.clone();
    let now = context.now();
    let leave = context
        .state()?
        .authority
        .expiry(context.head.headers(), now);
    let options = Options {
        town_id: town.town_id().to_string(),
        subscribed,
        frames,
        leave: Box::pin(leave),
        fanout: context.state()?.fanout.clone(),
    };
    lifecycle.spawn("websocket", async move {
        let parts = match upgraded.await {
            Ok(upgraded) => upgraded.downcast::<TokioIo<TcpStream>>(),
            Err(error) => {
                tracing::debug!(%error, "a WebSocket was not taken up");
                return;
            }
        };
        // Writing on the bare socket lets frames that are prepared already go out together.
        let Ok(parts) = parts else {
            tracing::error!("a connection is not a TCP stream");
            return;
        };
        let (reader, writer) = parts.io.into_inner().into_split();
        // A copy of its size: hyper's own buffer would be kept as long as the connection.
        let read_ahead = bytes::Bytes::copy_from_slice(&parts.read_buf);
        drop(parts.read_buf);
        let reader = std::io::Cursor::new(read_ahead).chain(reader);
        stream::serve(reader, writer, town, options, life).await;
        drop(place);
    });
    Ok(response)
}
