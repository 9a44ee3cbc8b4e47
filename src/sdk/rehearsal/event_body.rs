//! The events of all sessions, to everyone who subscribed.
//!
//! Every subscriber has a bounded queue, and a turn waits for the slowest: as a process that
//! writes into a pipe waits for its reader. Nothing is dropped.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use sse_stream::Sse;
use tokio::sync::mpsc;

/// How many events may wait for one subscriber.
const QUEUE: usize = 256;

/// Everyone who hears the events.
#[derive(Debug, Default)]
pub(super) struct Audience(Mutex<Vec<mpsc::Sender<Bytes>>>);

impl Audience {
    /// A new subscriber, whose first event is `greeting`.
    pub(super) fn join(&self, greeting: &str) -> EventBody {
        let (sender, receiver) = mpsc::channel(QUEUE);
        // A new queue has room.
        let _ = sender.try_send(sse(greeting));
        self.lock().push(sender);
        EventBody(receiver)
    }

    /// Tells everyone, waiting for those who are slow.
    pub(super) async fn tell(&self, event: &str) {
        let bytes = sse(event);
        let subscribers = self.lock().clone();
        for subscriber in subscribers {
            // One that left is forgotten below.
            let _ = subscriber.send(bytes.clone()).await;
        }
        self.lock().retain(|subscriber| !subscriber.is_closed());
    }

    /// Tells those who are not behind: for heartbeats, which only the idle need.
    pub(super) fn tell_idle(&self, event: &str) {
        let bytes = sse(event);
        self.lock().retain(|subscriber| {
            let _ = subscriber.try_send(bytes.clone());
            !subscriber.is_closed()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Bytes>>> {
        self.0
            .lock()
            .expect("no code panics while it holds the subscribers")
    }
}

fn sse(event: &str) -> Bytes {
    Sse::default()
        .data(event)
        .encode()
        .expect("there is no event name and no id to refuse")
}

/// The endless body of an answer to `GET /global/event`.
#[derive(Debug)]
pub(super) struct EventBody(mpsc::Receiver<Bytes>);

impl Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
