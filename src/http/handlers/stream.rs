//! The WebSocket of a town.

use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::http::auth::{self, PROTOCOL};
use crate::http::context::{Context, Reply};
use crate::http::error::ApiError;
use crate::stream::{self, Options};

pub(in crate::http) async fn town(mut context: Context) -> Reply {
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
    let lifecycle = context.state()?.lifecycle.clone();
    let life = lifecycle.clone();
    let options = Options {
        town_id: town.town_id().to_string(),
        subscribed: None,
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
        let reader = std::io::Cursor::new(parts.read_buf).chain(reader);
        stream::serve(reader, writer, town, options, life).await;
    });
    Ok(response)
}
