//! Fan-out as it is usually written: a broadcast channel per agent, a task per subscriber, and one
//! `write_frame` of fastwebsockets per subscriber and event.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, Payload, WebSocket};
use gastownd::lifecycle::Lifecycle;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use super::{listen, take_events};
use crate::error::{During, Result};

/// Events that a subscriber may be behind.
const CHANNEL_LEN: usize = 4096;
/// How often it is looked whether the slowest has caught up.
const PAUSE: Duration = Duration::from_micros(200);

/// Takes the load's connection first, then that many subscribers; each asks for `/{agent}`.
pub(crate) fn serve(subscribers: usize, agents: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .during("make a runtime")?;
    let listener = listen()?;
    let (source, _) = listener.accept().during("accept")?;
    listener.set_nonblocking(true).during("listen")?;
    let channels: Arc<Vec<_>> = (0..agents)
        .map(|_| broadcast::Sender::<Bytes>::new(CHANNEL_LEN))
        .collect::<Vec<_>>()
        .into();
    let lifecycle = Lifecycle::new();
    let ready = Arc::new(AtomicUsize::new(0));
    let accepting = accept(listener, channels.clone(), ready.clone(), lifecycle.clone());
    let _entered = runtime.enter();
    lifecycle.spawn_detached("accept", async move {
        // The load sees its connections break.
        let _ = accepting.await;
    });
    while ready.load(Ordering::Acquire) < subscribers {
        std::thread::sleep(PAUSE);
    }
    take_events(source, |agent, frame| {
        let channel = &channels[agent];
        // A channel that overflows loses events; so that it measures the same work, it never does.
        while channel.len() >= CHANNEL_LEN / 2 {
            std::thread::sleep(PAUSE);
        }
        let payload_at = crate::frames::head(frame).map_or(0, |head| head.payload_at);
        let _ = channel.send(Bytes::copy_from_slice(&frame[payload_at..]));
        Ok(())
    })?;
    // The load ends this process when it has read everything.
    loop {
        std::thread::park();
    }
}

type Channels = Arc<Vec<broadcast::Sender<Bytes>>>;

async fn accept(
    listener: std::net::TcpListener,
    channels: Channels,
    ready: Arc<AtomicUsize>,
    lifecycle: Lifecycle,
) -> Result<()> {
    let listener = TcpListener::from_std(listener).during("listen")?;
    loop {
        let (stream, _) = listener.accept().await.during("accept")?;
        let _ = stream.set_nodelay(true);
        let (channels, ready, life) = (channels.clone(), ready.clone(), lifecycle.clone());
        lifecycle.spawn_detached("connection", async move {
            let service = service_fn(move |request| {
                upgrade(request, channels.clone(), ready.clone(), life.clone())
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn upgrade(
    mut request: Request<Incoming>,
    channels: Channels,
    ready: Arc<AtomicUsize>,
    lifecycle: Lifecycle,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let agent = request.uri().path().trim_matches('/').parse().unwrap_or(0);
    let upgraded = fastwebsockets::upgrade::upgrade(&mut request);
    let (Ok((response, upgrade)), Some(channel)) = (upgraded, channels.get::<usize>(agent)) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    let events = channel.subscribe();
    lifecycle.spawn_detached("subscriber", async move {
        if let Ok(socket) = upgrade.await {
            ready.fetch_add(1, Ordering::AcqRel);
            follow(socket, events).await;
        }
    });
    Ok(Response::from_parts(
        response.into_parts().0,
        Full::default(),
    ))
}

async fn follow(mut socket: WebSocket<TokioIo<Upgraded>>, mut events: broadcast::Receiver<Bytes>) {
    while let Ok(event) = events.recv().await {
        let frame = Frame::text(Payload::Borrowed(&event));
        if socket.write_frame(frame).await.is_err() {
            return;
        }
    }
}
