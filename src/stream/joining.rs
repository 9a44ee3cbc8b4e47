//! Letting events wait a moment, so that several share one write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lifecycle::Lifecycle;

use super::signal::Signal;

/// Wakes all connections that have something to send together, after a while: a timer of each one's
/// own costs more than the write that it saves. Clones share the wait.
#[derive(Clone, Debug)]
pub struct Joiner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Connections with something to send, each at most once.
    waiting: Mutex<Vec<Arc<Signal>>>,
    begun: Notify,
}

impl Joiner {
    /// `interval` is the longest time that the first event that is not sent waits for others; `None`
    /// if that is zero.
    #[must_use]
    pub fn start(interval: Duration, lifecycle: &Lifecycle) -> Option<Self> {
        if interval.is_zero() {
            return None;
        }
        let joiner = Self(Arc::new(Inner {
            waiting: Mutex::default(),
            begun: Notify::new(),
        }));
        let own = joiner.clone();
        lifecycle.spawn_detached("join events", async move {
            loop {
                own.0.begun.notified().await;
                tokio::time::sleep(interval).await;
                for signal in own.take() {
                    signal.ring();
                }
            }
        });
        Some(joiner)
    }

    /// Wakes this one with the others.
    pub(super) fn add(&self, signal: Arc<Signal>) {
        let mut waiting = self.waiting();
        waiting.push(signal);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            self.0.begun.notify_one();
        }
    }

    fn take(&self) -> Vec<Arc<Signal>> {
        std::mem::take(&mut self.waiting())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Signal>>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
