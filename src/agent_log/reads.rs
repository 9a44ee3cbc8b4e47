//! What all reads of the disk together may take.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads under way at once; the others wait in the order they came. Each one brings pages into the
/// database's memory that are let go of only when no earlier read is under way: a thousand readers
/// that woke at once took a gigabyte before there was this bound.
const READS_MAX: usize = 4;
/// Readers that may read in large pieces at once.
const LARGE_MAX: usize = 64;
/// What one of those may hold of the disk: what it writes and what is read meanwhile. All together
/// 32 MiB.
pub const LARGE_BYTES: usize = 512 << 10;

/// The bounds on reads of all logs of a process.
#[derive(Debug)]
pub(super) struct Reads {
    turns: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(READS_MAX)),
            large: Arc::new(Semaphore::new(LARGE_MAX)),
        }
    }
}

/// Leave to hold [`LARGE_BYTES`] of what was read from disk, until it is dropped.
#[derive(Debug)]
pub struct LargeRead {
    _permit: OwnedSemaphorePermit,
}

impl Reads {
    /// Resolves when it is the caller's turn to read; the turn is over when the permit is dropped.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.turns.clone().acquire_owned().await.ok()
    }

    /// Whether a reader that takes two turns would make others wait.
    pub(super) fn is_busy(&self) -> bool {
        self.turns.available_permits() < READS_MAX
    }

    /// Leave for large reads; `None` while too many others have it.
    pub(super) fn large(&self) -> Option<LargeRead> {
        let permit = self.large.clone().try_acquire_owned().ok()?;
        Some(LargeRead { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use super::*;

    #[tokio::test]
    async fn reads_are_bounded_and_places_come_back() {
        let reads = Reads::default();
        let mut turns = Vec::new();
        for _ in 0..READS_MAX {
            turns.push(reads.turn().await);
        }
        let waiting = reads.turn();
        let mut waiting = std::pin::pin!(waiting);
        let now = std::future::poll_fn(|context| {
            let polled = waiting.as_mut().poll(context);
            std::task::Poll::Ready(polled.is_ready())
        });
        assert!(!now.await, "one more than allowed");
        drop(turns);
        assert!(waiting.await.is_some());

        let large: Vec<_> = (0..LARGE_MAX).map(|_| reads.large()).collect();
        assert!(large.iter().all(Option::is_some));
        assert!(reads.large().is_none());
        drop(large);
        assert!(reads.large().is_some());
    }
}
