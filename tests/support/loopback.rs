//! A small HTTP server on a loopback port, for the servers that tests play.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves `answer` until `lifecycle` stops; the address.
pub(crate) async fn serve<S, F, A, B>(lifecycle: &Lifecycle, state: Arc<S>, answer: A) -> SocketAddr
where
    S: Send + Sync + 'static,
    A: Fn(Arc<S>, Request<Bytes>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = lifecycle.clone();
    lifecycle.spawn_detached("test server", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (state, answer) = (Arc::clone(&state), answer.clone());
            let conversation = converse(TokioIo::new(stream), state, answer);
            tasks.spawn_detached("test connection", conversation);
        }
    });
    address
}

/// Answers the requests of one connection.
pub(crate) async fn converse<S, F, A, B>(
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin,
    state: Arc<S>,
    answer: A,
) where
    F: Future<Output = Response<B>>,
    A: Fn(Arc<S>, Request<Bytes>) -> F + Clone,
    B: Body<Data = Bytes> + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (state, answer) = (Arc::clone(&state), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = Request::from_parts(head, body);
            Ok::<_, Infallible>(answer(state, request).await)
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(stream, service)
        .await;
}
