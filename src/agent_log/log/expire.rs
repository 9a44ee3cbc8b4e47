//! Retention: old segments go, the floor rises.
//!
//! Off the write path: one sweep for all logs calls [`Log::expire`], which removes whole segments
//! from the front, a bounded number a time. The last segment always stays: it tells the last id
//! and the place in the container's stream.

use std::time::Duration;

use crate::model::Timestamp;
use crate::storage::{self, Batch, LogHead, LogHeadKey, SegmentKey};

use super::super::frame::EventView;
use super::super::segment::{Segment, Slice};
use super::{Log, State, committer_ended};

/// Segments removed by one call, and bytes of them: some milliseconds of work.
const TURN_SEGMENTS_MAX: usize = 256;
const TURN_BYTES_MAX: usize = 2 << 20;
/// A log that has grown by this part of its bound is swept before its round.
const SLACK: u64 = 16;

/// What of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Events at least as new as this.
    pub since: Timestamp,
    /// At most so many.
    pub events_max: u64,
    /// At most so many bytes of frames.
    pub bytes_max: u64,
    /// Whatever else, events from this id on.
    pub needed_from: u64,
}

impl Keep {
    /// By age alone.
    #[must_use]
    pub fn for_age(now: Timestamp, age: Duration) -> Self {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Self {
            since: Timestamp::from_millis(now.as_millis().saturating_sub(age)),
            events_max: u64::MAX,
            bytes_max: u64::MAX,
            needed_from: u64::MAX,
        }
    }
}

/// What a sweep of a log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Events that were removed.
    pub events: u64,
    /// Whether there may be more to remove.
    pub more: bool,
}

/// At which growth a log wants to be swept. A log that was just opened wants it at once, because
/// nobody has looked yet.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    last_id: u64,
    bytes_end: u64,
    rung: bool,
}

impl Alarm {
    pub(super) fn rings(&mut self, last_id: u64, bytes_end: u64) -> bool {
        let over = last_id >= self.last_id || bytes_end >= self.bytes_end;
        over && !std::mem::replace(&mut self.rung, true)
    }
}

impl Log {
    /// Removes from the front what need not be kept, whole segments and at most some hundreds of
    /// them; resolves when that is durable. `also` may add to the batch what belongs to removed
    /// events.
    ///
    /// # Errors
    /// If the database fails; then nothing was removed.
    pub async fn expire(
        &self,
        keep: Keep,
        mut also: impl FnMut(&Slice, &mut Batch) + Send + 'static,
    ) -> Result<Expired, storage::Error> {
        let log = self.clone();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let begun = tokio::task::spawn_blocking(move || {
            let mut batch = Batch::freeing();
            let Some((floor, more)) = log.find_floor(&keep, &mut batch, &mut also)? else {
                return Ok(None);
            };
            let former = log.raise_floor(floor, &mut batch);
            let raised = log.clone();
            let offered = log.0.tree.offer(
                batch,
                Box::new(move |result| {
                    if result.is_err() {
                        raised.lock().first_id = former;
                    }
                    let _ = done.send(result);
                }),
            );
            if let Err(refused) = offered {
                refused.tell();
            }
            let events = floor - former;
            Ok(Some(Expired { events, more }))
        });
        let begun = begun.await.unwrap_or_else(|_| Err(committer_ended()))?;
        let Some(expired) = begun else {
            return Ok(Expired {
                events: 0,
                more: false,
            });
        };
        outcome.await.unwrap_or_else(|_| Err(committer_ended()))?;
        Ok(expired)
    }

    /// Puts the removal of what need not be kept into `batch`; the new floor and whether there may
    /// be more, or `None` if everything is to be kept.
    fn find_floor(
        &self,
        keep: &Keep,
        batch: &mut Batch,
        also: &mut dyn FnMut(&Slice, &mut Batch),
    ) -> Result<Option<(u64, bool)>, storage::Error> {
        let (first_id, last_id, bytes_end) = {
            let state = self.lock();
            (state.first_id, state.last_id, state.bytes_end)
        };
        let mut floor = None;
        let (mut segments, mut bytes) = (0, 0);
        for row in self.0.tree.scan_from(&SegmentKey { first_id })? {
            let (head, frames) = row?.into_parts();
            let bytes_before = head.bytes_before;
            let segment = Segment::new(head, frames);
            let kept_bytes = bytes_end.saturating_sub(bytes_before);
            let goes = last_id.saturating_sub(segment.first_id()) >= keep.events_max
                || kept_bytes > keep.bytes_max
                || is_before(&segment, keep.since);
            if !goes || segment.last_id() >= last_id.min(keep.needed_from) {
                self.lock()
                    .set_alarm(segment.first_id(), bytes_before, keep);
                return Ok(floor.map(|floor| (floor, false)));
            }
            batch.delete(&SegmentKey {
                first_id: segment.first_id(),
            });
            also(&segment.slice_from(0), batch);
            floor = Some(segment.last_id() + 1);
            segments += 1;
            bytes += segment.byte_len();
            if segments >= TURN_SEGMENTS_MAX || bytes >= TURN_BYTES_MAX {
                return Ok(floor.map(|floor| (floor, true)));
            }
        }
        self.lock().set_alarm(first_id, bytes_end, keep);
        Ok(floor.map(|floor| (floor, false)))
    }

    /// Raises the floor, in memory and in `batch`; the former one. Readers must not look for rows
    /// that are about to go.
    fn raise_floor(&self, floor: u64, batch: &mut Batch) -> u64 {
        let mut state = self.lock();
        let former = std::mem::replace(&mut state.first_id, floor);
        let (tails, log) = (&self.0.shared.tails, self.downgraded());
        state.tail.pop_below(floor, tails, &log);
        let head = LogHead {
            epoch: state.epoch,
            first_id: floor,
            last_id: state.last_id,
        };
        batch.put(&LogHeadKey {}, &head);
        former
    }
}

impl State {
    fn set_alarm(&mut self, first_id: u64, bytes_begin: u64, keep: &Keep) {
        let with_slack = |bound: u64| bound.saturating_add(bound / SLACK);
        self.alarm = Alarm {
            last_id: first_id.saturating_add(with_slack(keep.events_max)),
            bytes_end: bytes_begin.saturating_add(with_slack(keep.bytes_max)),
            rung: false,
        };
    }
}

/// Whether the segment's newest event is older than `since`.
fn is_before(segment: &Segment, since: Timestamp) -> bool {
    let slice = segment.slice_from(segment.last_id());
    let event = slice.frames().next().and_then(EventView::of_frame);
    event
        .and_then(|event| Timestamp::parse(&event.timestamp))
        .is_some_and(|moment| moment < since)
}
