//! How logs wake a connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::agent_log::Watcher;

/// Which of a connection's subscriptions have something to do. Each stands in it at most once, so
/// its size is bounded by the number of subscriptions.
#[derive(Debug, Default)]
pub(super) struct Signal {
    ready: Mutex<Vec<u64>>,
    notify: Notify,
}

impl Signal {
    /// Moves the tokens woken since the last call to the end of `ready`.
    pub(super) fn take(&self, ready: &mut VecDeque<u64>) {
        let mut woken = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(woken.drain(..));
    }

    /// Resolves when there may be some.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// One subscription's part of a signal. Waking one that is awake costs a single exchange, whatever
/// the number of events.
#[derive(Debug)]
pub(super) struct Waker {
    signal: Arc<Signal>,
    awake: AtomicBool,
}

impl Waker {
    /// Awake: the subscription begins with something to do.
    pub(super) fn new(signal: Arc<Signal>) -> Self {
        let awake = AtomicBool::new(true);
        Self { signal, awake }
    }

    /// From now on it is to be woken; called before the log is read.
    pub(super) fn rest(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }
}

impl Watcher for Waker {
    fn wake(&self, token: u64) {
        if self.awake.swap(true, Ordering::SeqCst) {
            return;
        }
        let signal = &self.signal;
        let mut ready = signal.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(token);
        let first = ready.len() == 1;
        drop(ready);
        if first {
            signal.notify.notify_one();
        }
    }
}
