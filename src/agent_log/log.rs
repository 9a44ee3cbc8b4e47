//! One log: its state, opening it, and where it stands.
//!
//! Appends that arrive while a commit is under way wait together and make the next one, so a log
//! has at most one commit of its own in flight and busy logs write large segments.

mod append;
mod expire;
mod read;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use crate::model::Epoch;
use crate::storage::{self, Batch, LinkPosition, LogHead, LogHeadKey, SegmentKey, Tree};

use super::frame::Subject;
use super::tail::{Shared, Tail, TailLimits};

pub use append::{AppendError, Appended, NewEvent, Staged};
pub use expire::{Expired, Keep};
pub use read::Look;
pub use watch::{WatchId, Watcher};

/// Where a log stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log's life.
    pub epoch: Epoch,
    /// The first id that is kept: the floor.
    pub first_id: u64,
    /// The last id; `first_id - 1` if there is none.
    pub last_id: u64,
}

/// A log; cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

pub(super) struct Inner {
    subject: Subject,
    subject_fields: String,
    tree: Tree,
    shared: Shared,
    /// Whether it was used since it was last asked; see [`Log::is_idle`].
    used: AtomicBool,
    state: Mutex<State>,
}

struct State {
    epoch: Epoch,
    /// The floor. It is raised when older rows are about to be removed, a moment before that is
    /// durable: after a crash in that moment they are there again, under the same ids.
    first_id: u64,
    /// The last durable id.
    last_id: u64,
    /// The next id to give; ahead of `last_id` while commits are under way.
    next_id: u64,
    /// The last place of a container's stream that was staged.
    link: Option<LinkPosition>,
    /// Bytes of all frames ever staged.
    bytes_end: u64,
    tail: Tail,
    watchers: HashMap<WatchId, (Arc<dyn Watcher>, u64)>,
    next_watch: u64,
    ended: bool,
    pending: append::Queue,
    /// When retention wants to look at it.
    alarm: expire::Alarm,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `tree`, making it if it has none yet; resolves when its epoch is durable.
    /// It keeps up to `tail_bytes_max` of its newest events in memory, whatever others keep.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open(
        tree: Tree,
        subject: Subject,
        tail_bytes_max: usize,
    ) -> Result<Self, storage::Error> {
        let limits = TailLimits {
            per_log: tail_bytes_max,
            total: usize::MAX,
        };
        Self::open_among(tree, subject, Shared::new(limits)).await
    }

    /// Opens a log that shares its bounds with others.
    pub(super) async fn open_among(
        tree: Tree,
        subject: Subject,
        shared: Shared,
    ) -> Result<Self, storage::Error> {
        let (head, is_new) = match tree.get(&LogHeadKey {})? {
            Some(head) => (head, false),
            None => (
                LogHead {
                    epoch: Epoch::random(),
                    first_id: 1,
                    last_id: 0,
                },
                true,
            ),
        };
        let last = tree
            .last(&SegmentKey::all())?
            .map(storage::Tailed::into_parts);
        let (last_id, link, bytes_end) =
            last.map_or((head.last_id, None, 0), |(segment, frames)| {
                (
                    segment.first_id + segment.offsets.len() as u64 - 1,
                    segment.link,
                    segment.bytes_before + frames.len() as u64,
                )
            });
        if is_new {
            let mut batch = Batch::new();
            batch.put(&LogHeadKey {}, &head);
            let (done, outcome) = oneshot::channel();
            tree.commit(batch, Box::new(move |result| drop(done.send(result))))?;
            outcome.await.unwrap_or_else(|_| Err(committer_ended()))?;
        }
        let state = State {
            epoch: head.epoch,
            first_id: head.first_id,
            last_id,
            next_id: last_id + 1,
            link,
            bytes_end,
            tail: Tail::default(),
            watchers: HashMap::new(),
            next_watch: 0,
            ended: false,
            pending: append::Queue::default(),
            alarm: expire::Alarm::default(),
        };
        let subject_fields = subject.fields();
        Ok(Self(Arc::new(Inner {
            subject,
            subject_fields,
            tree,
            shared,
            used: AtomicBool::new(true),
            state: Mutex::new(state),
        })))
    }

    /// Whose log it is.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.0.subject
    }

    /// Where it stands, as far as it is durable.
    #[must_use]
    pub fn position(&self) -> Position {
        let state = self.lock();
        Position {
            epoch: state.epoch,
            first_id: state.first_id,
            last_id: state.last_id,
        }
    }

    /// Whether it was deleted.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Notes that it is wanted.
    pub(super) fn used(&self) {
        self.0.used.store(true, Ordering::Relaxed);
    }

    /// Whether nobody but the caller holds it, and nobody did since the last call.
    pub(super) fn is_idle(&self) -> bool {
        let held = Arc::strong_count(&self.0) > 1;
        !self.0.used.swap(held, Ordering::Relaxed) && !held
    }

    /// Whether nobody but the caller holds it and nothing of it is in memory.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.lock().tail.is_empty()
    }

    fn downgraded(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the oldest segment in memory.
    pub(super) fn give_way(self: &Arc<Self>) {
        let log = Arc::downgrade(self);
        self.lock().tail.pop_oldest(&self.shared.tails, &log);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tails = self.shared.tails.clone();
        let state = self.state.get_mut();
        state
            .unwrap_or_else(PoisonError::into_inner)
            .tail
            .clear(&tails);
    }
}

fn committer_ended() -> storage::Error {
    storage::Error::Poisoned {
        reason: "the committer has ended".to_owned(),
    }
}

#[cfg(test)]
mod tests;
