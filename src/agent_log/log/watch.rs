//! Telling those who wait for more.

use std::sync::Arc;

use super::{Log, State};

/// Told when a log has more to read or has ended.
pub trait Watcher: Send + Sync {
    /// Called from the committer's thread: must not block. `token` is the watcher's own.
    fn wake(&self, token: u64);
}

/// A registered watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(u64);

impl Log {
    /// Registers a watcher; it is told of everything published after this call.
    pub fn watch(&self, watcher: Arc<dyn Watcher>, token: u64) -> WatchId {
        let mut state = self.lock();
        let id = WatchId(state.next_watch);
        state.next_watch += 1;
        state.watchers.insert(id, (watcher, token));
        id
    }

    /// Forgets a watcher.
    pub fn unwatch(&self, id: WatchId) {
        self.lock().watchers.remove(&id);
    }

    /// Ends the log: appends are refused, watchers told.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.tail.clear(&self.0.shared.tails);
        state.wake();
    }
}

impl State {
    pub(super) fn wake(&self) {
        for (watcher, token) in self.watchers.values() {
            watcher.wake(*token);
        }
    }
}
