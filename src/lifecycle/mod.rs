//! How tasks start and end: the only caller of `tokio::spawn`.
//!
//! A [`Lifecycle`] is shared by everything in one process. Asking it to stop wakes every task that
//! waits on [`Lifecycle::stopping`]; [`Lifecycle::drained`] then waits until all of them ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The life of one process: start tasks, ask them to stop, wait until they did.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    stop: Arc<watch::Sender<bool>>,
    // Every running task holds a clone of the sender; when all are gone, `drained` resolves.
    alive: mpsc::WeakSender<()>,
    keep: Arc<std::sync::Mutex<Option<mpsc::Sender<()>>>>,
    drained: Arc<tokio::sync::Mutex<mpsc::Receiver<()>>>,
}

pin_project! {
    /// A task that says when it ended. An async block around it would hold it twice: as what it took in
    /// and as what it waits for.
    struct Task<F> {
        name: &'static str,
        guard: Option<mpsc::Sender<()>>,
        #[pin]
        task: F,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        ready!(this.task.poll(context));
        this.guard.take();
        tracing::trace!(task = this.name, "task ended");
        Poll::Ready(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that spawns"
)]
fn spawn<F: Future<Output = ()> + Send + 'static>(task: Task<F>) -> JoinHandle<()> {
    tokio::spawn(task)
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A new life, not stopping.
    #[must_use]
    pub fn new() -> Self {
        let (keep, drained) = mpsc::channel(1);
        Self {
            stop: Arc::new(watch::Sender::new(false)),
            alive: keep.downgrade(),
            keep: Arc::new(std::sync::Mutex::new(Some(keep))),
            drained: Arc::new(tokio::sync::Mutex::new(drained)),
        }
    }

    /// Starts a task that ends by itself when the life stops; [`Lifecycle::drained`] waits for it.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.alive.upgrade();
        spawn(Task { name, guard, task })
    }

    /// Starts a task that nobody waits for at the end: it is cut off when the runtime stops.
    pub fn spawn_detached<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = None;
        spawn(Task { name, guard, task })
    }

    /// Asks everything to stop. Idempotent.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when a stop is asked for (at once if it already was).
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`, so an error can't happen; either way we are done.
        let _ = stop.wait_for(|stopping| *stopping).await;
    }

    /// Resolves when every task begun with [`Lifecycle::spawn`] has ended.
    pub async fn drained(&self) {
        if let Ok(mut keep) = self.keep.lock() {
            keep.take();
        }
        while self.drained.lock().await.recv().await.is_some() {}
    }
}
