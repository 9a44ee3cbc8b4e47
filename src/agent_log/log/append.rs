//! Giving ids, committing, and publishing what is durable.

use tokio::sync::oneshot;

use crate::model::Timestamp;
use crate::storage::{self, Batch, LinkPosition, Once, SegmentKey};
use crate::telemetry::metrics;

use super::super::answers::Answers;
use super::super::frame::Encoder;
use super::super::segment::{Segment, SegmentBuilder};
use super::{Log, State, committer_ended};

/// Bytes of events that may wait for one log's next commit. Beyond it callers are refused, so that
/// a slow disk can't fill the memory.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// An event to be appended. `data` must be JSON.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its type, for example `message.part.delta`.
    pub event_type: String,
    /// What it carries: the text of any JSON value.
    pub data: Box<str>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Its place in a container's stream. An event at or before the last place of the same epoch
    /// is dropped: it was appended already.
    pub link: Option<LinkPosition>,
}

/// The ids that an append was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How many events were new.
    pub count: u64,
    /// The id of the first; the next free one if `count` is zero.
    pub first_id: u64,
    /// The id of the last.
    pub last_id: u64,
}

/// Why an append was refused. Nothing was stored, unless `Storage` says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log was deleted.
    #[error("the event log has ended")]
    Ended,
    /// Too much waits for the disk already.
    #[error("the event log is overloaded: {PENDING_BYTES_MAX} bytes wait for the disk")]
    Overloaded,
    /// The key of the request was used for another one.
    #[error("this key was used for another request")]
    KeyReused,
    /// The database failed, or its disk is full.
    #[error("the event log could not be written")]
    Storage(#[source] storage::Error),
}

impl From<storage::Error> for AppendError {
    fn from(error: storage::Error) -> Self {
        match error {
            // It was deleted while the append was under way.
            storage::Error::Removed { .. } => Self::Ended,
            error => Self::Storage(error),
        }
    }
}

/// What waits for the next commit.
#[derive(Default)]
pub(super) struct Queue {
    appends: Vec<Pending>,
    bytes: usize,
    in_flight: bool,
}

struct Pending {
    events: Vec<NewEvent>,
    once: Option<Once>,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// Segments that were put into a batch and wait to be published once it is durable.
#[derive(Debug)]
#[must_use = "a staged append must be published once its batch is durable"]
pub struct Staged {
    segments: Vec<Segment>,
    last_id: u64,
}

/// Starts a log's commit when it is dropped, so that whoever waits for it is answered, whatever
/// becomes of the committer's turn.
struct Takeoff(Log);

impl Drop for Takeoff {
    fn drop(&mut self) {
        self.0.fly();
    }
}

/// One commit of a log's own.
struct Flight {
    staged: Staged,
    link_before: Option<LinkPosition>,
    replies: Vec<(Reply, Appended)>,
}

/// The end of a flight. A committer that ends may drop what it was handed last: then the flight
/// crashes, or whatever was queued behind it would wait for ever.
struct Landing {
    log: Log,
    flight: Option<Flight>,
}

impl Landing {
    fn end(mut self, outcome: Result<(), storage::Error>) {
        match (self.flight.take(), outcome) {
            (Some(flight), Ok(())) => self.log.land(flight),
            (Some(flight), Err(error)) => self.log.crash(flight, &error),
            (None, _) => {}
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.log.crash(flight, &committer_ended());
        }
    }
}

impl Log {
    /// Appends `events` in order, all or none; resolves when they are durable and published.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Appended, AppendError> {
        self.append_once(events, None).await
    }

    /// The same; a repeat of a request that was carried out appends nothing and gets its answer.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_once(
        &self,
        mut events: Vec<NewEvent>,
        once: Option<Once>,
    ) -> Result<Appended, AppendError> {
        let outcome = self.begin(&mut events, once)?.await;
        outcome.unwrap_or_else(|_| Err(self.dropped()))
    }

    /// Why an append was never answered.
    #[must_use]
    pub fn dropped(&self) -> AppendError {
        if self.has_ended() {
            AppendError::Ended
        } else {
            committer_ended().into()
        }
    }

    /// Queues `events` and returns at once; the receiver resolves when they are durable and
    /// published; [`Log::dropped`] says why if it never does. Calls keep their order.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn begin_append(
        &self,
        mut events: Vec<NewEvent>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.begin(&mut events, None)
    }

    /// As [`Log::begin_append`], but takes `events` only if they are not refused.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn begin_append_from(
        &self,
        events: &mut Vec<NewEvent>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.begin(events, None)
    }

    fn begin(
        &self,
        events: &mut Vec<NewEvent>,
        once: Option<Once>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.used();
        let (reply, outcome) = oneshot::channel();
        let bytes: usize = events.iter().map(|event| event.data.len()).sum();
        let start = {
            let mut state = self.lock();
            if state.ended {
                return Err(AppendError::Ended);
            }
            let queue = &mut state.pending;
            if queue.bytes > 0 && queue.bytes + bytes > PENDING_BYTES_MAX {
                return Err(AppendError::Overloaded);
            }
            queue.bytes += bytes;
            let events = std::mem::take(events);
            queue.appends.push(Pending {
                events,
                once,
                reply,
            });
            !std::mem::replace(&mut queue.in_flight, true)
        };
        if start {
            let takeoff = Takeoff(self.clone());
            self.0.tree.take_turn(Box::new(move || drop(takeoff)));
        }
        Ok(outcome)
    }

    /// Puts `events` into a batch of the log's own tree that the caller commits. The caller is the
    /// log's only writer and publishes in the order of its commits.
    pub fn stage(&self, batch: &mut Batch, events: &[NewEvent]) -> Staged {
        let mut stage = Stage::begin(&self.0.subject_fields, &self.lock());
        for event in events {
            stage.push(event);
        }
        stage.finish(&mut self.lock(), batch)
    }

    /// Takes the last staged events back, whose batch was refused: their ids are given again.
    pub fn take_back(&self, first_id: u64) {
        self.lock().next_id = first_id;
    }

    /// Makes staged events visible; their batch is durable.
    pub fn publish(&self, staged: Staged) {
        let is_overdue = self.lock().publish(self, staged);
        self.after_publishing(is_overdue);
    }

    /// Starts a commit of everything that waits. `in_flight` is set by the caller.
    fn fly(&self) {
        let mut batch = Batch::new();
        let mut answers = Answers::new(&self.0.tree);
        let Some(flight) = self.prepare(&mut batch, &mut answers) else {
            return;
        };
        if let Err(error) = answers.stage(&mut batch) {
            self.crash(flight, &error);
            return;
        }
        let landing = Landing {
            log: self.clone(),
            flight: Some(flight),
        };
        let offered = self
            .0
            .tree
            .offer(batch, Box::new(move |outcome| landing.end(outcome)));
        if let Err(refused) = offered {
            refused.tell();
        }
    }

    /// Gives ids to everything that waits and puts it into `batch`.
    fn prepare(&self, batch: &mut Batch, answers: &mut Answers<'_>) -> Option<Flight> {
        let mut state = self.lock();
        let pending = std::mem::take(&mut state.pending.appends);
        state.pending.bytes = 0;
        if state.ended {
            state.pending.in_flight = false;
            for Pending { reply, .. } in pending {
                let _ = reply.send(Err(AppendError::Ended));
            }
            return None;
        }
        let link_before = state.link;
        let mut stage = Stage::begin(&self.0.subject_fields, &state);
        let mut replies = Vec::with_capacity(pending.len());
        for Pending {
            events,
            once,
            reply,
        } in pending
        {
            match answers.earlier(once.as_ref()) {
                Ok(None) => {}
                Ok(Some(appended)) => {
                    replies.push((reply, appended));
                    continue;
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                    continue;
                }
            }
            let first_id = stage.next_id;
            for event in &events {
                if state.is_fresh(event) {
                    stage.push(event);
                }
            }
            let appended = Appended {
                count: stage.next_id - first_id,
                first_id,
                last_id: stage.next_id - 1,
            };
            answers.add(once, appended);
            replies.push((reply, appended));
        }
        let staged = stage.finish(&mut state, batch);
        Some(Flight {
            staged,
            link_before,
            replies,
        })
    }

    /// The commit is durable: publish, answer, and go on with what came meanwhile.
    fn land(&self, flight: Flight) {
        let (is_overdue, more) = {
            let mut state = self.lock();
            let before = state.last_id;
            let is_overdue = state.publish(self, flight.staged);
            metrics::EVENTS_APPENDED.add(state.last_id.saturating_sub(before));
            state.pending.in_flight = !state.pending.appends.is_empty();
            (is_overdue, state.pending.in_flight)
        };
        self.after_publishing(is_overdue);
        for (reply, appended) in flight.replies {
            // A caller that has gone away does not care.
            let _ = reply.send(Ok(appended));
        }
        if more {
            self.fly();
        }
    }

    /// The commit failed: take back what it gave. What came meanwhile fails with it.
    fn crash(&self, flight: Flight, error: &storage::Error) {
        let pending = {
            let mut state = self.lock();
            state.next_id = state.last_id + 1;
            // What was not stored must be taken when it is sent again.
            state.link = flight.link_before;
            std::mem::take(&mut state.pending).appends
        };
        let waiting = flight.replies.into_iter().map(|(reply, _)| reply);
        for reply in waiting.chain(pending.into_iter().map(|pending| pending.reply)) {
            let _ = reply.send(Err(error.repeated().into()));
        }
    }

    /// What is done without holding the log.
    fn after_publishing(&self, is_overdue: bool) {
        self.0.shared.tails.trim();
        if is_overdue {
            self.0.shared.overdue.add(self.0.subject);
        }
    }
}

impl State {
    /// Whether the event was not appended before.
    fn is_fresh(&mut self, event: &NewEvent) -> bool {
        let Some(place) = event.link else { return true };
        let repeated = self
            .link
            .is_some_and(|last| last.epoch == place.epoch && place.seq <= last.seq);
        if !repeated {
            self.link = Some(place);
        }
        !repeated
    }

    /// True if retention should look at the log.
    fn publish(&mut self, log: &Log, staged: Staged) -> bool {
        if staged.segments.is_empty() {
            return false;
        }
        self.last_id = staged.last_id;
        if !self.ended {
            let tails = &log.0.shared.tails;
            self.tail.push(staged.segments, tails, &log.downgraded());
        }
        self.wake();
        self.alarm.rings(self.last_id, self.bytes_end)
    }
}

/// Encodes events into segments, beginning at the log's next id.
struct Stage<'a> {
    builder: SegmentBuilder,
    encoder: Encoder<'a>,
    next_id: u64,
}

impl<'a> Stage<'a> {
    fn begin(subject_fields: &'a str, state: &State) -> Self {
        Self {
            builder: SegmentBuilder::new(state.next_id, state.bytes_end),
            encoder: Encoder::new(subject_fields),
            next_id: state.next_id,
        }
    }

    fn push(&mut self, event: &NewEvent) {
        let (id, encoder) = (self.next_id, &mut self.encoder);
        self.next_id += 1;
        self.builder.push(event.link, |out| {
            encoder.push(out, id, &event.event_type, &event.data, event.timestamp);
        });
    }

    fn finish(self, state: &mut State, batch: &mut Batch) -> Staged {
        let segments = self.builder.finish().into_iter().map(|(mut head, frames)| {
            // Every segment knows the link's place, so that the last one alone tells it.
            head.link = head.link.or(state.link);
            state.bytes_end = head.bytes_before + frames.len() as u64;
            let key = SegmentKey {
                first_id: head.first_id,
            };
            batch.append(&key, &head, &frames);
            Segment::new(head, frames)
        });
        let segments = segments.collect();
        state.next_id = self.next_id;
        Staged {
            segments,
            last_id: self.next_id - 1,
        }
    }
}
