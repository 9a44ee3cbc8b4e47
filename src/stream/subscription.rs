//! One cursor into one log.

use std::sync::Arc;

use bytes::Bytes;

use crate::agent_log::{Log, Position, Subject, WatchId, frames_in};
use crate::model::Epoch;
use crate::storage;
use crate::telemetry::metrics;

use super::protocol;
use super::signal::{Signal, Waker};
use super::writer::Outbox;

/// What is left to do after a subscription was served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing until the log wakes it.
    CaughtUp,
    /// There is more to read.
    More,
    /// The log was deleted; the subscription is over.
    Ended,
}

/// How events are written to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// As they are stored: the same bytes for everybody.
    Shared,
    /// With the type under `event` as well, for older clients; each is written anew.
    WithEvent,
}

impl Frames {
    /// Puts stored frames, back to back, into `out`.
    fn put(self, bytes: Bytes, out: &mut Outbox) {
        match self {
            Self::Shared => out.push(bytes),
            Self::WithEvent => {
                for frame in frames_in(&bytes) {
                    out.push_text(&protocol::with_event(frame));
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    log: Log,
    watch: WatchId,
    waker: Arc<Waker>,
    /// The next id to send.
    next: u64,
    /// Whether the client was told that it has caught up.
    live: bool,
}

impl Subscription {
    /// Registers the cursor first and reads the position second, so that nothing is missed.
    pub(super) fn begin(
        log: Log,
        signal: &Arc<Signal>,
        token: u64,
        after: Option<u64>,
        epoch: Option<Epoch>,
        out: &mut Outbox,
    ) -> Self {
        let waker = Arc::new(Waker::new(signal.clone()));
        let watch = log.watch(waker.clone(), token);
        let position = log.position();
        let (next, recovered) = start(position, after, epoch);
        out.push_text(&protocol::subscribed(log.subject(), position, recovered));
        Self {
            log,
            watch,
            waker,
            next,
            live: false,
        }
    }

    pub(super) fn subject(&self) -> Subject {
        self.log.subject()
    }

    /// Puts the next frames behind the cursor into `out`: at most one read of the log, of about
    /// `bytes_max`.
    pub(super) async fn serve(
        &mut self,
        out: &mut Outbox,
        bytes_max: usize,
        frames: Frames,
    ) -> Result<Served, storage::Error> {
        self.waker.rest();
        let look = self
            .log
            .look(self.next, bytes_max, |bytes| frames.put(bytes, out));
        if look.ended {
            out.push_text(&protocol::ended(self.subject()));
            return Ok(Served::Ended);
        }
        metrics::EVENTS_DELIVERED.add(look.next.saturating_sub(self.next));
        self.next = look.next;
        if !look.in_memory {
            for slice in self.log.read_from_disk(self.next, bytes_max).await? {
                if slice.first_id() > self.next {
                    self.overtaken(out);
                }
                let next = slice.last_id() + 1;
                metrics::EVENTS_DELIVERED.add(next.saturating_sub(self.next));
                self.next = next;
                frames.put(slice.bytes(), out);
            }
            return Ok(Served::More);
        }
        if self.next <= look.last_id {
            return Ok(Served::More);
        }
        if !self.live {
            self.live = true;
            out.push_text(&protocol::live(self.subject(), look.last_id));
        }
        Ok(Served::CaughtUp)
    }

    /// Retention has removed what the client was to get next: it is told, and goes on at the floor.
    fn overtaken(&mut self, out: &mut Outbox) {
        let position = self.log.position();
        out.push_text(&protocol::subscribed(self.subject(), position, false));
        self.live = false;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.log.unwatch(self.watch);
    }
}

/// Where to begin, and whether that is what the client asked for.
fn start(position: Position, after: Option<u64>, epoch: Option<Epoch>) -> (u64, bool) {
    let Some(after) = after else {
        return (position.last_id + 1, true);
    };
    let same_life = epoch.is_none_or(|epoch| epoch == position.epoch);
    // An id that was never given is of another life too.
    let known = same_life && after <= position.last_id && after + 1 >= position.first_id;
    if known {
        (after + 1, true)
    } else {
        (position.first_id, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_begins_where_the_client_was_or_at_the_floor() {
        let epoch = Epoch::random();
        let position = Position {
            epoch,
            first_id: 5,
            last_id: 9,
        };
        let other = Some(Epoch::random());
        let cases = [
            (None, None, (10, true)),
            (Some(9), None, (10, true)),
            (Some(9), Some(epoch), (10, true)),
            (Some(6), None, (7, true)),
            (Some(4), None, (5, true)),
            (Some(3), None, (5, false)),
            (Some(0), None, (5, false)),
            (Some(10), None, (5, false)),
            (Some(u64::MAX), None, (5, false)),
            (Some(9), other, (5, false)),
        ];
        for (after, of, expected) in cases {
            assert_eq!(start(position, after, of), expected, "{after:?} {of:?}");
        }
        let fresh = Position {
            epoch,
            first_id: 1,
            last_id: 0,
        };
        assert_eq!(start(fresh, Some(0), None), (1, true));
        assert_eq!(start(fresh, None, None), (1, true));
    }
}
