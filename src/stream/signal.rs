//! How logs wake a connection.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::agent_log::Watcher;

/// Which of a connection's subscriptions have something to do. Waking one that is known to is
/// free, so its size is bounded by the number of subscriptions.
#[derive(Debug, Default)]
pub(super) struct Signal {
    ready: Mutex<HashSet<u64>>,
    notify: Notify,
}

impl Watcher for Signal {
    fn wake(&self, token: u64) {
        let is_new = self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token);
        if is_new {
            self.notify.notify_one();
        }
    }
}

impl Signal {
    /// The tokens woken since the last call.
    pub(super) fn take(&self) -> HashSet<u64> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when there may be some.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }
}
