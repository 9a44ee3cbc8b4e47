//! The newest events of all logs, in memory: bounded for each log and for all together.
//!
//! When the sum is too large, the oldest segment of all gives way, whosever it is: so logs in which
//! nothing happens lose their tails first, and a reader behind one reads the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::log::Inner as Log;
use super::segment::Segment;

/// What a segment takes in memory besides its frames and offsets: itself, its place in the tail,
/// and its share of the allocator's slack.
const SEGMENT_OVERHEAD: usize = 192;

/// Bytes of events kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct TailLimits {
    /// Of one log.
    pub per_log: usize,
    /// Of all logs together.
    pub total: usize,
}

/// The tails of all logs.
#[derive(Debug)]
pub(super) struct Tails {
    limits: TailLimits,
    stamps: AtomicU64,
    ages: Mutex<Ages>,
}

#[derive(Debug, Default)]
struct Ages {
    bytes: usize,
    /// Each log that has a tail, by the stamp of its oldest segment.
    oldest: BTreeMap<u64, Weak<Log>>,
}

/// The tail of one log; part of the log's state.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// With the moment of each, as a number that rises over all logs.
    segments: VecDeque<(u64, Segment)>,
    bytes: usize,
}

impl Tails {
    pub(super) fn new(limits: TailLimits) -> Self {
        let (stamps, ages) = (AtomicU64::new(0), Mutex::default());
        Self {
            limits,
            stamps,
            ages,
        }
    }

    /// Bytes of all tails.
    pub(super) fn byte_len(&self) -> usize {
        self.lock().bytes
    }

    /// Makes the oldest give way until the sum is within its bound. No log may be locked by the
    /// caller.
    pub(super) fn trim(&self) {
        loop {
            let oldest = {
                let mut ages = self.lock();
                if ages.bytes <= self.limits.total {
                    return;
                }
                match ages.oldest.pop_first() {
                    Some((_, log)) => log,
                    None => return,
                }
            };
            // One that is gone takes its bytes with it.
            if let Some(log) = oldest.upgrade() {
                log.give_way();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Adds what was published, and lets go of what is too much for one log.
    pub(super) fn push(&mut self, new: Vec<Segment>, tails: &Tails, log: &Weak<Log>) {
        self.change(tails, Some(log), |tail| {
            for segment in new {
                let stamp = tails.stamps.fetch_add(1, Ordering::Relaxed);
                tail.bytes += cost(&segment);
                tail.segments.push_back((stamp, segment));
            }
            while tail.bytes > tails.limits.per_log && tail.segments.len() > 1 {
                tail.pop();
            }
        });
    }

    /// Lets go of the oldest segment.
    pub(super) fn pop_oldest(&mut self, tails: &Tails, log: &Weak<Log>) {
        self.change(tails, Some(log), Self::pop);
    }

    /// Lets go of what ends before `first_id`.
    pub(super) fn pop_below(&mut self, first_id: u64, tails: &Tails, log: &Weak<Log>) {
        self.change(tails, Some(log), |tail| {
            while tail
                .segments
                .front()
                .is_some_and(|(_, segment)| segment.last_id() < first_id)
            {
                tail.pop();
            }
        });
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self, tails: &Tails) {
        self.change(tails, None, |tail| {
            tail.segments = VecDeque::new();
            tail.bytes = 0;
        });
    }

    /// The segments from the one that holds `from` on; `None` if that is older than the tail.
    pub(super) fn from(&self, from: u64) -> Option<impl Iterator<Item = &Segment>> {
        let (_, oldest) = self.segments.front()?;
        if from < oldest.first_id() {
            return None;
        }
        let start = self
            .segments
            .partition_point(|(_, segment)| segment.last_id() < from);
        Some(self.segments.range(start..).map(|(_, segment)| segment))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn pop(&mut self) {
        if let Some((_, segment)) = self.segments.pop_front() {
            self.bytes -= cost(&segment);
        }
    }

    /// Changes the tail and keeps the account of all tails true.
    fn change(&mut self, tails: &Tails, log: Option<&Weak<Log>>, change: impl FnOnce(&mut Self)) {
        let (bytes, oldest) = (self.bytes, self.oldest());
        change(self);
        if (bytes, oldest) == (self.bytes, self.oldest()) {
            return;
        }
        let mut ages = tails.lock();
        ages.bytes = ages.bytes + self.bytes - bytes;
        // It may have been taken out by `Tails::trim`, so it is put back even if it is the same.
        if let Some(stamp) = oldest {
            ages.oldest.remove(&stamp);
        }
        if let (Some(stamp), Some(log)) = (self.oldest(), log) {
            ages.oldest.insert(stamp, log.clone());
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.segments.front().map(|(stamp, _)| *stamp)
    }
}

fn cost(segment: &Segment) -> usize {
    segment.byte_len() + segment.len() * size_of::<u32>() + SEGMENT_OVERHEAD
}

impl super::Logs {
    /// Bytes of events in memory, of all logs.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.shared().tails.byte_len()
    }
}

/// What the logs of a process share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) tails: Arc<Tails>,
    pub(super) overdue: Arc<super::overdue::Overdue>,
    pub(super) reads: Arc<super::reads::Reads>,
}

impl Shared {
    pub(super) fn new(limits: TailLimits) -> Self {
        Self {
            tails: Arc::new(Tails::new(limits)),
            overdue: Arc::default(),
            reads: Arc::default(),
        }
    }
}
