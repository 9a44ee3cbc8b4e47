//! One log: giving ids, committing, the tail, and telling watchers.
//!
//! Appends that arrive while a commit is under way wait together and make the next one, so a log
//! has at most one commit of its own in flight and busy logs write large segments.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::{Epoch, Timestamp};
use crate::storage::{self, Batch, LinkPosition, LogHead, LogHeadKey, Once, SegmentKey, Tree};

use super::answers::Answers;
use super::frame::{self, Subject};
use super::segment::{Segment, SegmentBuilder, Slice};

/// Bytes of events that may wait for one log's next commit. Beyond it callers are refused, so that
/// a slow disk can't fill the memory.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Bytes of backfill handed out by one read: enough to keep a socket busy, small enough to share
/// the disk.
const READ_BYTES_MAX: usize = 512 << 10;

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
    /// The database failed.
    #[error("the event log could not be written")]
    Storage(#[from] storage::Error),
}

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

/// Told when a log has more to read or has ended.
pub trait Watcher: Send + Sync {
    /// Called from the committer's thread: must not block. `token` is the watcher's own.
    fn wake(&self, token: u64);
}

/// A registered watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(u64);

/// A log; cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    subject: Subject,
    subject_fields: String,
    tree: Tree,
    tail_bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    epoch: Epoch,
    first_id: u64,
    /// The last durable id.
    last_id: u64,
    /// The next id to give; ahead of `last_id` while commits are under way.
    next_id: u64,
    /// The last place of a container's stream that was staged.
    link: Option<LinkPosition>,
    tail: VecDeque<Segment>,
    tail_bytes: usize,
    watchers: HashMap<WatchId, (Arc<dyn Watcher>, u64)>,
    next_watch: u64,
    ended: bool,
    pending: Vec<Pending>,
    pending_bytes: usize,
    in_flight: bool,
}

struct Pending {
    events: Vec<NewEvent>,
    once: Option<Once>,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Segments that were put into a batch and wait to be published once it is durable.
#[derive(Debug)]
#[must_use = "a staged append must be published once its batch is durable"]
pub struct Staged {
    segments: Vec<Segment>,
    last_id: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("subject", &self.0.subject)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `tree`, making it if it has none yet; resolves when its epoch is durable.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open(
        tree: Tree,
        subject: Subject,
        tail_bytes_max: usize,
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
        let (last_id, link) = last.map_or((head.last_id, None), |(segment, _)| {
            (
                segment.first_id + segment.offsets.len() as u64 - 1,
                segment.link,
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
            tail: VecDeque::new(),
            tail_bytes: 0,
            watchers: HashMap::new(),
            next_watch: 0,
            ended: false,
            pending: Vec::new(),
            pending_bytes: 0,
            in_flight: false,
        };
        let subject_fields = subject.fields();
        Ok(Self(Arc::new(Inner {
            subject,
            subject_fields,
            tree,
            tail_bytes_max,
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
        events: Vec<NewEvent>,
        once: Option<Once>,
    ) -> Result<Appended, AppendError> {
        let outcome = self.begin(events, once)?.await;
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
        events: Vec<NewEvent>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.begin(events, None)
    }

    fn begin(
        &self,
        events: Vec<NewEvent>,
        once: Option<Once>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let (reply, outcome) = oneshot::channel();
        let bytes: usize = events.iter().map(|event| event.data.len()).sum();
        let start = {
            let mut state = self.lock();
            if state.ended {
                return Err(AppendError::Ended);
            }
            if state.pending_bytes > 0 && state.pending_bytes + bytes > PENDING_BYTES_MAX {
                return Err(AppendError::Overloaded);
            }
            state.pending_bytes += bytes;
            state.pending.push(Pending {
                events,
                once,
                reply,
            });
            !std::mem::replace(&mut state.in_flight, true)
        };
        if start {
            self.fly();
        }
        Ok(outcome)
    }

    /// Puts `events` into a batch of the log's own tree that the caller commits. The caller is the
    /// log's only writer and publishes in the order of its commits.
    pub fn stage(&self, batch: &mut Batch, events: &[NewEvent]) -> Staged {
        self.lock().stage(&self.0.subject_fields, batch, events)
    }

    /// Takes the last staged events back, whose batch was refused: their ids are given again.
    pub fn take_back(&self, first_id: u64) {
        self.lock().next_id = first_id;
    }

    /// Makes staged events visible; their batch is durable.
    pub fn publish(&self, staged: Staged) {
        self.lock().publish(staged, self.0.tail_bytes_max);
    }

    /// Starts a commit of everything that waits. `in_flight` is set by the caller.
    fn fly(&self) {
        let mut batch = Batch::new();
        let mut answers = Answers::new(&self.0.tree);
        let (staged, link_before, replies) = {
            let mut state = self.lock();
            let pending = std::mem::take(&mut state.pending);
            state.pending_bytes = 0;
            if state.ended {
                state.in_flight = false;
                for Pending { reply, .. } in pending {
                    let _ = reply.send(Err(AppendError::Ended));
                }
                return;
            }
            let link_before = state.link;
            let mut replies = Vec::with_capacity(pending.len());
            let mut events = Vec::new();
            for Pending {
                events: more,
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
                let first_id = state.next_id + events.len() as u64;
                let before = events.len();
                events.extend(state.fresh(more));
                let count = (events.len() - before) as u64;
                let appended = Appended {
                    count,
                    first_id,
                    last_id: first_id + count - 1,
                };
                answers.add(once, appended);
                replies.push((reply, appended));
            }
            (
                state.stage(&self.0.subject_fields, &mut batch, &events),
                link_before,
                replies,
            )
        };
        if let Err(error) = answers.stage(&mut batch) {
            self.land(Err(error), None, link_before, replies);
            return;
        }
        let log = self.clone();
        let outcome = self.0.tree.commit(
            batch,
            Box::new(move |result| log.land(result, Some(staged), link_before, replies)),
        );
        if let Err(error) = outcome {
            // The callers learn it from their dropped replies.
            self.land(Err(error), None, link_before, Vec::new());
        }
    }

    /// The commit has ended: publish or take back, answer, and go on with what came meanwhile.
    fn land(
        &self,
        result: Result<(), storage::Error>,
        staged: Option<Staged>,
        link_before: Option<LinkPosition>,
        replies: Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>,
    ) {
        let more = {
            let mut state = self.lock();
            match (&result, staged) {
                (Ok(()), Some(staged)) => state.publish(staged, self.0.tail_bytes_max),
                _ => {
                    state.next_id = state.last_id + 1;
                    // What was not stored must be taken when it is sent again.
                    state.link = link_before;
                }
            }
            state.in_flight = !state.pending.is_empty();
            state.in_flight
        };
        let failure = result.err().map(|error| error.to_string());
        for (reply, appended) in replies {
            // A caller that has gone away does not care.
            let _ = reply.send(match &failure {
                None => Ok(appended),
                Some(reason) => Err(storage::Error::Poisoned {
                    reason: reason.clone(),
                }
                .into()),
            });
        }
        if more {
            self.fly();
        }
    }

    /// What is to be read from `from` on if it is in memory; `None` if it must come from disk.
    #[must_use]
    pub fn tail_from(&self, from: u64) -> Option<Vec<Slice>> {
        let state = self.lock();
        if from > state.last_id {
            return Some(Vec::new());
        }
        let oldest = state.tail.front()?.first_id();
        if from < oldest {
            return None;
        }
        let start = state
            .tail
            .partition_point(|segment| segment.last_id() < from);
        let mut bytes = 0;
        let within = state.tail.iter().skip(start).take_while(|segment| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += segment.byte_len();
            fits
        });
        Some(within.map(|segment| segment.slice_from(from)).collect())
    }

    /// What is to be read from `from` on, from memory or disk: at least one slice unless there is
    /// nothing. `from` must not be below the floor.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_from(&self, from: u64) -> Result<Vec<Slice>, storage::Error> {
        if let Some(slices) = self.tail_from(from) {
            return Ok(slices);
        }
        let log = self.clone();
        let read = tokio::task::spawn_blocking(move || log.read_disk(from))
            .await
            .unwrap_or_else(|_| Err(committer_ended()));
        match read {
            // It was removed in this moment; watchers are told so.
            Err(_) if self.has_ended() => Ok(Vec::new()),
            read => read,
        }
    }

    fn read_disk(&self, from: u64) -> Result<Vec<Slice>, storage::Error> {
        let last_id = self.position().last_id;
        let mut slices = Vec::new();
        let mut bytes = 0;
        for row in self.0.tree.scan_from(&SegmentKey { first_id: from })? {
            let (head, frames) = row?.into_parts();
            let segment = Segment::new(head, frames);
            // Later segments may be applied but not durable yet.
            if bytes >= READ_BYTES_MAX || segment.last_id() > last_id {
                break;
            }
            bytes += segment.byte_len();
            slices.push(segment.slice_from(from));
        }
        Ok(slices)
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
            let at = state.tail.partition_point(|segment| segment.last_id() < id);
            if let Some(segment) = state.tail.get(at)
                && segment.first_id() <= id
            {
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
        state.tail.clear();
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The events that were not appended before.
    fn fresh(&mut self, events: Vec<NewEvent>) -> Vec<NewEvent> {
        let mut fresh = events;
        fresh.retain(|event| {
            let Some(place) = event.link else { return true };
            let repeated = self
                .link
                .is_some_and(|last| last.epoch == place.epoch && place.seq <= last.seq);
            if !repeated {
                self.link = Some(place);
            }
            !repeated
        });
        fresh
    }

    fn stage(&mut self, subject_fields: &str, batch: &mut Batch, events: &[NewEvent]) -> Staged {
        let mut builder = SegmentBuilder::new(self.next_id);
        let mut scratch = String::new();
        for event in events {
            let id = self.next_id;
            self.next_id += 1;
            builder.push(event.link, |out| {
                frame::push_event(
                    out,
                    &mut scratch,
                    subject_fields,
                    id,
                    &event.event_type,
                    &event.data,
                    event.timestamp,
                );
            });
        }
        let segments = builder.finish().into_iter().map(|(mut head, frames)| {
            // Every segment knows the link's place, so that the last one alone tells it.
            head.link = head.link.or(self.link);
            batch.append(
                &SegmentKey {
                    first_id: head.first_id,
                },
                &head,
                &frames,
            );
            Segment::new(head, frames.into())
        });
        let segments = segments.collect();
        Staged {
            segments,
            last_id: self.next_id - 1,
        }
    }

    fn publish(&mut self, staged: Staged, tail_bytes_max: usize) {
        if staged.segments.is_empty() {
            return;
        }
        self.last_id = staged.last_id;
        for segment in staged.segments {
            self.tail_bytes += segment.byte_len();
            self.tail.push_back(segment);
        }
        while self.tail_bytes > tail_bytes_max && self.tail.len() > 1 {
            if let Some(segment) = self.tail.pop_front() {
                self.tail_bytes -= segment.byte_len();
            }
        }
        self.wake();
    }

    fn wake(&self) {
        for (watcher, token) in self.watchers.values() {
            watcher.wake(*token);
        }
    }
}

fn committer_ended() -> storage::Error {
    storage::Error::Poisoned {
        reason: "the committer has ended".to_owned(),
    }
}

#[cfg(test)]
mod tests;
