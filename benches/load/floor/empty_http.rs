//! The floor of HTTP: a hyper service that reads the body and answers the same short text.

use std::convert::Infallible;

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::listen;
use crate::error::{During, Result};

pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .during("make a runtime")?;
    let listener = listen()?;
    listener.set_nonblocking(true).during("listen")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).during("listen")?;
        let lifecycle = Lifecycle::new();
        loop {
            let (stream, _) = listener.accept().await.during("accept")?;
            let _ = stream.set_nodelay(true);
            lifecycle.spawn_detached("connection", async move {
                // A connection that breaks is the load's business.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    // What can't be read is answered all the same.
    let _ = request.into_body().collect().await;
    let body = Bytes::from_static(br#"{"success":true,"data":{"appended":true,"id":1}}"#);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
