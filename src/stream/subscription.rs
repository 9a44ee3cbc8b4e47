//! One cursor into one log.

use std::sync::Arc;

use bytes::Bytes;

use crate::agent_log::{LARGE_BYTES, LargeRead, Log, Position, Slice, Subject, WatchId, frames_in};
use crate::model::Epoch;
use crate::storage;
use crate::telemetry::metrics;

use super::protocol;
use super::signal::Waker;
use super::writer::Outbox;

/// What is left to do after a subscription was served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing until the log wakes it.
    CaughtUp,
    /// There is more to read.
    More,
    /// So there is, and what was put into the outbox now came from disk.
    MoreOfDisk,
    /// The log was deleted; the subscription is over.
    Ended,
}

/// What is left to do after a subscription was served from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InMemory {
    /// Nothing until the log wakes it.
    CaughtUp,
    /// There is more in memory.
    More,
    /// What comes next must be read from disk.
    OnDisk,
    /// The log was deleted, and the client was not told.
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
    /// Whether the last frames came from disk.
    from_disk: bool,
    /// What was read from disk while the piece before it was written.
    ahead: Option<Box<Ahead>>,
}

#[derive(Debug)]
struct Ahead {
    from: u64,
    slices: Vec<Slice>,
}

/// How much of a log is put into the outbox at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Of what is in memory, which all readers share.
    pub(super) memory_bytes: usize,
    /// Of what has to be read from disk, which is the reader's alone.
    pub(super) disk_bytes: usize,
}

impl Subscription {
    /// Registers the cursor first and reads the position second, so that nothing is missed.
    pub(super) fn begin(
        log: Log,
        waker: Waker,
        token: u64,
        after: Option<u64>,
        epoch: Option<Epoch>,
        out: &mut Outbox,
    ) -> Self {
        let waker = Arc::new(waker);
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
            from_disk: false,
            ahead: None,
        }
    }

    pub(super) fn subject(&self) -> Subject {
        self.log.subject()
    }

    /// Puts the next frames behind the cursor into `out`: at most one read of the log, of about
    /// `reach`.
    pub(super) async fn serve(
        &mut self,
        out: &mut Outbox,
        reach: Reach,
        frames: Frames,
    ) -> Result<Served, storage::Error> {
        let ahead = self.ahead.take();
        match self.serve_from_memory(out, reach.memory_bytes, frames) {
            InMemory::CaughtUp => Ok(Served::CaughtUp),
            InMemory::More => Ok(Served::More),
            InMemory::Ended => {
                out.push_text(&protocol::ended(self.subject()));
                Ok(Served::Ended)
            }
            InMemory::OnDisk => {
                let slices = match ahead.filter(|ahead| ahead.from == self.next) {
                    Some(ahead) => ahead.slices,
                    None => self.log.read_from_disk(self.next, reach.disk_bytes).await?,
                };
                for slice in slices {
                    if slice.first_id() > self.next {
                        self.overtaken(out);
                    }
                    self.go_on_at(slice.last_id() + 1);
                    frames.put(slice.bytes(), out);
                }
                Ok(Served::MoreOfDisk)
            }
        }
    }

    /// Puts frames into `out` that are in memory, about `bytes_max` of them.
    pub(super) fn serve_from_memory(
        &mut self,
        out: &mut Outbox,
        bytes_max: usize,
        frames: Frames,
    ) -> InMemory {
        self.waker.rest();
        let look = self
            .log
            .look(self.next, bytes_max, |bytes| frames.put(bytes, out));
        if look.ended {
            return InMemory::Ended;
        }
        self.go_on_at(look.next);
        self.from_disk = !look.in_memory;
        if self.from_disk {
            return InMemory::OnDisk;
        }
        if self.next <= look.last_id {
            return InMemory::More;
        }
        if !self.live {
            self.live = true;
            out.push_text(&protocol::live(self.subject(), look.last_id));
        }
        InMemory::CaughtUp
    }

    fn go_on_at(&mut self, next: u64) {
        metrics::EVENTS_DELIVERED.add(next.saturating_sub(self.next));
        self.next = next;
    }

    /// Whether it was last read from disk for the client, so probably is next.
    pub(super) fn is_behind(&self) -> bool {
        self.from_disk
    }

    /// Leave to read in large pieces; `None` while too many others do.
    pub(super) fn large_read(&self) -> Option<LargeRead> {
        self.log.large_read()
    }

    /// Reads what will be wanted next, if it has to be read from disk, so that the disk and the
    /// socket work at the same time. The caller has leave to.
    pub(super) async fn read_ahead(&mut self) {
        if !self.log.is_on_disk_only(self.next) {
            return;
        }
        let read = self.log.read_from_disk(self.next, LARGE_BYTES / 2).await;
        // One that failed is tried again when it is wanted, and tells then.
        if let Ok(slices) = read
            && !slices.is_empty()
        {
            let from = self.next;
            self.ahead = Some(Box::new(Ahead { from, slices }));
        }
    }

    /// Lets go of what was read ahead.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead = None;
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
    use crate::agent_log::{EventView, Logs, NewEvent};
    use crate::lifecycle::Lifecycle;
    use crate::model::{AgentId, Timestamp};
    use crate::storage::Database;
    use crate::stream::Fanout;
    use crate::stream::signal::{Seat, Serve};

    /// Rests in no seat.
    struct Nobody;

    impl Serve for Nobody {
        fn ready(&mut self) -> &mut std::collections::VecDeque<u64> {
            unreachable!("nobody rests")
        }

        fn serve_now(&mut self) -> bool {
            unreachable!("nobody rests")
        }
    }

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

    #[tokio::test]
    async fn what_was_read_ahead_comes_next_and_nothing_else() {
        const REACH: Reach = Reach {
            memory_bytes: 8 << 10,
            disk_bytes: 8 << 10,
        };
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(Database::open_in_test(dir.path()), 32 << 10);
        let log = logs.open(AgentId::random()).await.unwrap();
        let event = NewEvent {
            event_type: "e".to_owned(),
            data: format!("\"{}\"", "d".repeat(1000)).into(),
            timestamp: Timestamp::from_millis(0),
            link: None,
        };
        for _ in 0..20 {
            log.append(vec![event.clone(); 50]).await.unwrap();
        }
        let mut out = Outbox::default();
        let fanout = Fanout::start(std::time::Duration::ZERO, &Lifecycle::new());
        let seat: Arc<Seat<Nobody>> = Arc::default();
        let waker = Waker::new(seat, fanout.lane());
        let mut subscription = Subscription::begin(log.clone(), waker, 1, Some(0), None, &mut out);
        let (mut aheads, mut turns) = (0, 0);
        loop {
            let served = subscription.serve(&mut out, REACH, Frames::Shared).await;
            assert!(subscription.ahead.is_none(), "it is used or let go of");
            turns += 1;
            match served.unwrap() {
                Served::MoreOfDisk => subscription.read_ahead().await,
                Served::More => {}
                Served::CaughtUp => break,
                Served::Ended => panic!("it goes on"),
            }
            aheads += usize::from(subscription.ahead.is_some());
            match turns % 3 {
                // One that is of another place, and one that is given up.
                1 => {
                    if let Some(ahead) = &mut subscription.ahead {
                        ahead.from += 1;
                    }
                }
                2 => subscription.forget_ahead(),
                _ => {}
            }
        }
        assert!(aheads >= 3, "{aheads}");
        let bytes = out.into_bytes();
        let ids: Vec<u64> = frames_in(&bytes)
            .filter_map(EventView::of_frame)
            .map(|event| event.id)
            .collect();
        assert_eq!(ids, (1..=1000).collect::<Vec<_>>());
    }
}
