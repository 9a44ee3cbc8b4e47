//! A small HTTP server on a loopback port, for the servers that tests play.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A server that can be ended with all its connections.
pub(crate) struct Served {
    address: SocketAddr,
    tasks: Tasks,
}

type Tasks = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl Served {
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn end(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

/// Serves `answer` until the runtime stops; the address.
pub(crate) async fn serve<S, F, A, B>(lifecycle: &Lifecycle, state: Arc<S>, answer: A) -> SocketAddr
where
    S: Send + Sync + 'static,
    A: Fn(Arc<S>, Request<Bytes>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    serve_at(anywhere, lifecycle, state, answer).await.address
}

/// The same at a certain address, and it can be ended.
pub(crate) async fn serve_at<S, F, A, B>(
    address: SocketAddr,
    lifecycle: &Lifecycle,
    state: Arc<S>,
    answer: A,
) -> Served
where
    S: Send + Sync + 'static,
    A: Fn(Arc<S>, Request<Bytes>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, spawn) = (Tasks::default(), lifecycle.clone());
    let begun = Arc::clone(&tasks);
    let server = lifecycle.spawn_detached("test server", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (state, answer) = (Arc::clone(&state), answer.clone());
            let conversation = converse(TokioIo::new(stream), state, answer);
            let task = spawn.spawn_detached("test connection", conversation);
            let mut begun = begun.lock().unwrap();
            begun.retain(|task| !task.is_finished());
            begun.push(task);
        }
    });
    tasks.lock().unwrap().push(server);
    Served { address, tasks }
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

/// The connection shall break.
#[derive(Debug, thiserror::Error)]
#[error("the test breaks it off")]
pub(crate) struct Broken;

/// A body that comes piece by piece.
pub(crate) struct ChunkBody(pub(crate) mpsc::Receiver<Result<Bytes, Broken>>);

impl Body for ChunkBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
