//! Reading behind a cursor: from memory if it is there, else from disk.

use bytes::Bytes;

use crate::storage::{self, SegmentKey};

use super::super::reads::LargeRead;
use super::super::segment::{Segment, Slice};
use super::{Log, committer_ended};

/// Bytes of backfill handed out by one read: enough to keep a socket busy, small enough to share
/// the disk.
const READ_BYTES_MAX: usize = 512 << 10;

/// A read of so many bytes is worth two threads.
const HALVED_FROM: usize = 128 << 10;

/// What a cursor saw of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether the log was deleted.
    pub ended: bool,
    /// Whether there is nothing to be read from disk before the cursor can go on.
    pub in_memory: bool,
    /// The id behind what was given out.
    pub next: u64,
    /// The last durable id.
    pub last_id: u64,
}

impl Log {
    /// Gives `take` the frames from `from` on that are in memory, about `bytes_max` of them.
    pub fn look(&self, from: u64, bytes_max: usize, mut take: impl FnMut(Bytes)) -> Look {
        let state = self.lock();
        let mut look = Look {
            ended: state.ended,
            in_memory: true,
            next: from,
            last_id: state.last_id,
        };
        if state.ended || from > state.last_id {
            return look;
        }
        let Some(segments) = state.tail.from(from) else {
            look.in_memory = false;
            return look;
        };
        let mut bytes = 0;
        for segment in segments {
            if bytes >= bytes_max {
                break;
            }
            let frames = segment.bytes_from(from);
            bytes += frames.len();
            look.next = segment.last_id() + 1;
            take(frames);
        }
        look
    }

    /// What is to be read from `from` on if it is in memory; `None` if it must come from disk.
    #[must_use]
    pub fn tail_from(&self, from: u64) -> Option<Vec<Slice>> {
        let state = self.lock();
        if from > state.last_id {
            return Some(Vec::new());
        }
        let mut bytes = 0;
        let within = state.tail.from(from)?.take_while(|segment| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += segment.byte_len();
            fits
        });
        Some(within.map(|segment| segment.slice_from(from)).collect())
    }

    /// What is to be read from `from` on, from memory or disk: at least one slice unless there is
    /// nothing. The slices are contiguous. The first one holds `from`, unless that is below the
    /// floor by now: then it begins at the floor, and [`Slice::first_id`] is greater than `from`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_from(&self, from: u64) -> Result<Vec<Slice>, storage::Error> {
        if let Some(slices) = self.tail_from(from) {
            return Ok(slices);
        }
        self.read_from_disk(from, READ_BYTES_MAX).await
    }

    /// As [`Log::read_from`], about `bytes_max` and not from memory.
    ///
    /// A large piece is read as two at once, if nobody else needs the turn: to take the database's
    /// pages apart is work for more than one processor.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_from_disk(
        &self,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Slice>, storage::Error> {
        if bytes_max < HALVED_FROM || self.0.shared.reads.is_busy() {
            return self.read_piece(from, bytes_max, u64::MAX).await;
        }
        let middle = self.id_behind(from, bytes_max / 2);
        // The first may be longer than was guessed; then the second begins within it.
        let first = self.read_piece(from, bytes_max / 8 * 5, middle);
        let second = self.read_piece(middle, bytes_max / 8 * 3, u64::MAX);
        let (first, second) = tokio::join!(first, second);
        let (mut slices, second) = (first?, second?);
        for slice in second {
            let next = slices.last().map(|last| last.last_id() + 1);
            match next {
                Some(next) if slice.first_id() == next => slices.push(slice),
                // Both came upon it.
                Some(next) if slice.last_id() < next => {}
                // The first one ended too early.
                _ => break,
            }
        }
        Ok(slices)
    }

    /// About which event comes so many bytes behind `from`.
    fn id_behind(&self, from: u64, bytes: usize) -> u64 {
        let state = self.lock();
        let each = (state.bytes_end / state.last_id.max(1)).max(1);
        from + (bytes as u64 / each).max(1)
    }

    /// The segments from `from` to the one before which `end` is, or about `bytes_max`.
    pub(super) async fn read_piece(
        &self,
        from: u64,
        bytes_max: usize,
        end: u64,
    ) -> Result<Vec<Slice>, storage::Error> {
        let turn = self.0.shared.reads.turn().await;
        let log = self.clone();
        let reading = move || {
            let read = log.read_disk(from, bytes_max, end);
            // Also if nobody waits for it any more, because it can't be cut off.
            drop(turn);
            read
        };
        let read = tokio::task::spawn_blocking(reading)
            .await
            .unwrap_or_else(|_| Err(committer_ended()));
        match read {
            // It was removed in this moment; watchers are told so.
            Err(_) if self.has_ended() => Ok(Vec::new()),
            read => read,
        }
    }

    /// Whether an event has to be read from disk.
    #[must_use]
    pub fn is_on_disk_only(&self, id: u64) -> bool {
        let state = self.lock();
        id <= state.last_id && state.tail.from(id).is_none()
    }

    /// Leave for reads of up to [`LARGE_BYTES`]; `None` while too many other readers have it. Who
    /// has none reads in small pieces.
    ///
    /// [`LARGE_BYTES`]: crate::agent_log::LARGE_BYTES
    #[must_use]
    pub fn large_read(&self) -> Option<LargeRead> {
        self.0.shared.reads.large()
    }

    /// The slice that begins with one event; `None` if that is below the floor or not durable yet.
    ///
    /// # Errors
    /// If the database fails.
    pub fn read_one(&self, id: u64) -> Result<Option<Slice>, storage::Error> {
        {
            let state = self.lock();
            if id < state.first_id || id > state.last_id {
                return Ok(None);
            }
            if let Some(segment) = state.tail.from(id).and_then(|mut segments| segments.next()) {
                return Ok(Some(segment.slice_from(id)));
            }
        }
        let row = self.0.tree.scan_from(&SegmentKey { first_id: id })?.next();
        let Some((head, frames)) = row.transpose()?.map(storage::Tailed::into_parts) else {
            return Ok(None);
        };
        let segment = Segment::new(head, frames);
        let holds = segment.first_id() <= id && id <= segment.last_id();
        Ok(holds.then(|| segment.slice_from(id)))
    }

    fn read_disk(
        &self,
        from: u64,
        bytes_max: usize,
        end: u64,
    ) -> Result<Vec<Slice>, storage::Error> {
        loop {
            let position = self.position();
            let start = from.max(position.first_id);
            let slices = self.scan(start, position.last_id, bytes_max, end)?;
            if !slices.is_empty() || start > position.last_id || self.has_ended() {
                return Ok(slices);
            }
            // Retention has removed what was to be read; then the floor is higher now.
            if self.position().first_id <= start {
                return Err(storage::Error::Damaged {
                    what: "event log",
                    detail: format!("there is no event {start}"),
                });
            }
        }
    }

    /// The segments from `from` to `last_id`, as far as they follow on each other and begin before
    /// `end`. Later ones may be applied but not durable yet.
    fn scan(
        &self,
        from: u64,
        last_id: u64,
        bytes_max: usize,
        end: u64,
    ) -> Result<Vec<Slice>, storage::Error> {
        let mut slices: Vec<Slice> = Vec::new();
        let (mut bytes, mut next) = (0, from);
        for row in self.0.tree.scan_from(&SegmentKey { first_id: from })? {
            let (head, frames) = row?.into_parts();
            let segment = Segment::new(head, frames);
            let follows = segment.first_id() <= next && next <= segment.last_id();
            // The floor may be behind the end; then there is one all the same.
            let is_enough = bytes >= bytes_max || (next >= end && !slices.is_empty());
            if is_enough || segment.last_id() > last_id || !follows {
                break;
            }
            bytes += segment.byte_len();
            next = segment.last_id() + 1;
            slices.push(segment.slice_from(from));
        }
        Ok(slices)
    }
}
