//! One socket with all its subscriptions.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use fastwebsockets::Role;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::agent_log::{LARGE_BYTES, LargeRead, Log, Subject};
use crate::lifecycle::Lifecycle;
use crate::storage;
use crate::telemetry::metrics;

use super::fanout::{Fanout, Lane};
use super::message::{Message, MessageError};
use super::patient::PatientReader;
use super::protocol::{self, Invalid, Request};
use super::signal::{Seat, Serve, Waker};
use super::subscription::{Frames, InMemory, Reach, Served, Subscription};
use super::writer::{self, Outbox};

/// Longest message of a client: a subscription is some 200 bytes.
const MESSAGE_LEN_MAX: usize = 64 << 10;
/// Subscriptions of one socket; each costs some 200 bytes.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Bytes gathered before they are written. A socket that stalls holds on to them, so this bounds
/// what a thousand stalled ones cost.
const GATHER_BYTES: usize = 32 << 10;
/// And for one that has proven that it reads. What has to be read from disk for it is the
/// connection's alone, so that only some may have so much of that.
const GATHER_BYTES_FAST: usize = LARGE_BYTES / 2;
/// A socket has proven it when so much was written without a long wait: more than the system's
/// buffers of both sides can hold.
const FAST_AFTER_BYTES: usize = 16 << 20;
/// A wait that is long: nobody reads at the other end.
const LONG_WAIT: Duration = Duration::from_millis(100);
/// A silent connection is asked this often whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// And has this long to answer.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// Invalid messages in [`INVALID_WINDOW`] after which the socket is closed.
const INVALID_MAX: u32 = 20;
const INVALID_WINDOW: Duration = Duration::from_secs(60);

const CLOSE_DONE: u16 = 1000;
const CLOSE_RESTARTING: u16 = 1001;
const CLOSE_INVALID_DATA: u16 = 1007;
const CLOSE_NOT_ALLOWED: u16 = 1008;
const CLOSE_TOO_LONG: u16 = 1009;
const CLOSE_INTERNAL: u16 = 1011;
const CLOSE_STALLED: u16 = 1013;
const CLOSE_LOG_IN: u16 = 4401;
const CLOSE_NO_TOWN: u16 = 4404;

/// Finds the log of a subject the client may see.
pub trait Feeds: Send + Sync {
    /// The log; `None` if there is no such subject in this town.
    fn log(
        &self,
        subject: Subject,
    ) -> impl Future<Output = Result<Option<Log>, storage::Error>> + Send;
}

/// What a connection is about.
pub struct Options {
    /// The town, for the hello.
    pub town_id: String,
    /// A subscription from the beginning that the client need not ask for.
    pub subscribed: Option<Subject>,
    /// Carries events to it while it rests.
    pub fanout: Fanout,
    /// How events are written.
    pub frames: Frames,
    /// Resolves when the client may not watch any more.
    pub leave: Pin<Box<dyn Future<Output = Leave> + Send>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("town_id", &self.town_id)
            .finish_non_exhaustive()
    }
}

/// Why a client may not watch any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its token was revoked or has ended.
    NotAllowed,
    /// Its session has ended.
    LogInAgain,
}

/// Why a connection ends.
enum End {
    Close(u16, &'static str),
    Gone,
}

type Reading<R> =
    Pin<Box<dyn Future<Output = (PatientReader<R>, Result<Message, MessageError>)> + Send>>;

/// Serves one socket, whose handshake is done, until it ends. `reader` begins with what came
/// behind the handshake.
pub async fn serve<R, W, F>(reader: R, writer: W, feeds: F, options: Options, lifecycle: Lifecycle)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
    F: Feeds + 'static,
{
    let _open = metrics::SOCKETS.hold();
    let connection = Connection {
        frames: options.frames,
        writer,
        feeds,
        seat: Arc::default(),
        lane: options.fanout.lane(),
        out: Outbox::default(),
        subscriptions: HashMap::new(),
        tokens: HashMap::new(),
        next_token: 0,
        ready: VecDeque::new(),
        invalid: (Instant::now(), 0),
        flowing: 0,
        large: None,
    };
    let reading = read(PatientReader::new(reader, Role::Server, MESSAGE_LEN_MAX));
    if let (Some(mut connection), end) = connection.run(reading, options, lifecycle).await {
        connection.close(end).await;
    }
}

fn read<R: AsyncRead + Unpin + Send + 'static>(reader: PatientReader<R>) -> Reading<R> {
    Box::pin(reader.next())
}

struct Connection<W, F> {
    frames: Frames,
    writer: W,
    feeds: F,
    /// Where it rests.
    seat: Arc<Seat<Self>>,
    lane: Arc<Lane>,
    out: Outbox,
    subscriptions: HashMap<u64, Subscription>,
    tokens: HashMap<Subject, u64>,
    next_token: u64,
    /// Subscriptions with something to send, oldest first, so that a busy one starves nobody.
    ready: VecDeque<u64>,
    /// When the window of invalid messages began, and how many there were.
    invalid: (Instant, u32),
    /// Bytes written since the socket last let us wait for long.
    flowing: usize,
    /// Leave to read from disk in large pieces, and ahead of the writing.
    large: Option<LargeRead>,
}

/// What a connection's task is woken for.
enum Next {
    Send,
    Receive(Result<Message, MessageError>),
    /// The client has been silent for long.
    Ask,
    End(End),
}

impl<W: AsyncWrite + Unpin + Send + 'static, F: Feeds + 'static> Connection<W, F> {
    /// Serves the socket until it ends; why it did, and the connection unless that is in no state to
    /// be closed.
    async fn run<R: AsyncRead + Unpin + Send + 'static>(
        mut self,
        mut reading: Reading<R>,
        mut options: Options,
        lifecycle: Lifecycle,
    ) -> (Option<Self>, End) {
        self.out.push_text(&protocol::hello(&options.town_id));
        if let Some(subject) = options.subscribed
            && let Err(end) = self.subscribe(subject, Some(0), None).await
        {
            return (Some(self), end);
        }
        let seat = self.seat.clone();
        let mut stopping = pin!(lifecycle.stopping());
        // When the client is asked whether it is there. The timer is set anew only when it rings,
        // because messages come more often than that.
        let mut deadline = Instant::now() + PING_INTERVAL;
        let mut ring = pin!(tokio::time::sleep_until(deadline));
        let mut asked = false;
        loop {
            if let Err(end) = self.send().await {
                return (Some(self), end);
            }
            let has_more = !self.ready.is_empty();
            let resting = seat.rest(self, !has_more);
            let next = tokio::select! {
                biased;
                () = &mut stopping => Next::End(End::Close(CLOSE_RESTARTING, "restarting")),
                leave = &mut options.leave => Next::End(match leave {
                    Leave::NotAllowed => End::Close(CLOSE_NOT_ALLOWED, "no longer allowed"),
                    Leave::LogInAgain => End::Close(CLOSE_LOG_IN, "log in again"),
                }),
                (reader, message) = &mut reading => {
                    reading = read(reader);
                    Next::Receive(message)
                }
                () = std::future::ready(()), if has_more => Next::Send,
                () = seat.woken() => Next::Send,
                () = &mut ring => Next::Ask,
            };
            let Some(risen) = resting.rise() else {
                return (None, End::Gone);
            };
            self = risen;
            match next {
                Next::Send => {}
                Next::Receive(message) => {
                    deadline = Instant::now() + PING_INTERVAL;
                    asked = false;
                    if let Err(end) = self.receive(message).await {
                        return (Some(self), end);
                    }
                }
                Next::Ask => {
                    if Instant::now() >= deadline {
                        if asked {
                            return (Some(self), End::Gone);
                        }
                        asked = true;
                        deadline = Instant::now() + PONG_TIMEOUT;
                        self.out.push(writer::ping_frame());
                    }
                    ring.as_mut().reset(deadline);
                }
                Next::End(end) => return (Some(self), end),
            }
        }
    }

    /// Gathers what is ready, up to a bound, and writes it.
    async fn send(&mut self) -> Result<(), End> {
        self.seat.take(&mut self.ready);
        let town_ended = self.gather().await?;
        let bytes = self.out.byte_len();
        let waited = self.write().await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => End::Close(CLOSE_STALLED, "stalled"),
            _ => End::Gone,
        })?;
        self.flowing = if waited < LONG_WAIT {
            self.flowing.saturating_add(bytes)
        } else {
            // It stalls, so it gives back what it may hold.
            self.large = None;
            for token in &self.ready {
                if let Some(subscription) = self.subscriptions.get_mut(token) {
                    subscription.forget_ahead();
                }
            }
            0
        };
        if town_ended {
            return Err(End::Close(CLOSE_NO_TOWN, "the town was deleted"));
        }
        Ok(())
    }

    /// Puts what is ready into the outbox; whether the town's feed has ended.
    async fn gather(&mut self) -> Result<bool, End> {
        let mut town_ended = false;
        let reach = self.reach();
        while self.out.byte_len() < reach.memory_bytes {
            let Some(token) = self.ready.pop_front() else {
                break;
            };
            let Some(subscription) = self.subscriptions.get_mut(&token) else {
                continue;
            };
            match subscription.serve(&mut self.out, reach, self.frames).await {
                Ok(Served::CaughtUp) => {}
                Ok(Served::More) => self.ready.push_back(token),
                Ok(Served::MoreOfDisk) => {
                    self.ready.push_back(token);
                    if self.large.is_none() && self.out.byte_len() >= GATHER_BYTES {
                        break;
                    }
                }
                Ok(Served::Ended) => {
                    town_ended |= subscription.subject() == Subject::Town;
                    self.forget(token);
                }
                Err(error) => {
                    tracing::error!(%error, "a subscriber's log can't be read");
                    return Err(End::Close(CLOSE_INTERNAL, "the event log can't be read"));
                }
            }
        }
        Ok(town_ended)
    }

    /// Whether the socket has proven that it reads.
    const fn is_fast(&self) -> bool {
        self.flowing >= FAST_AFTER_BYTES
    }

    /// How much is gathered: little, until the socket has proven that it reads.
    fn reach(&mut self) -> Reach {
        if !self.is_fast() {
            self.large = None;
            return Reach {
                memory_bytes: GATHER_BYTES,
                disk_bytes: GATHER_BYTES,
            };
        }
        let next = self.ready.front();
        let next = next.and_then(|token| self.subscriptions.get(token));
        match next.filter(|next| next.is_behind()) {
            None => self.large = None,
            Some(next) if self.large.is_none() => self.large = next.large_read(),
            Some(_) => {}
        }
        Reach {
            memory_bytes: GATHER_BYTES_FAST,
            disk_bytes: if self.large.is_some() {
                GATHER_BYTES_FAST
            } else {
                GATHER_BYTES
            },
        }
    }

    /// Writes the outbox; the longest time that the socket let it wait. Meanwhile the disk is read
    /// for who comes next, so that at most one subscription holds what was read ahead.
    async fn write(&mut self) -> io::Result<Duration> {
        let next = self.ready.front().filter(|_| self.large.is_some());
        let next = next.and_then(|token| self.subscriptions.get_mut(token));
        let writing = self.out.write_to(&mut self.writer);
        match next {
            None => writing.await,
            Some(next) => {
                // On the heap, because few connections do this, and few for long.
                let (written, ()) = tokio::join!(writing, Box::pin(next.read_ahead()));
                written
            }
        }
    }

    async fn receive(&mut self, message: Result<Message, MessageError>) -> Result<(), End> {
        match message {
            Ok(Message::Text(text)) => match Request::parse(&text) {
                Ok(request) => self.answer(request).await,
                Err(Invalid(problem)) => self.refuse(&problem),
            },
            Ok(Message::Binary) => self.refuse("messages are text"),
            Ok(Message::Ping(payload)) => {
                self.out.push(writer::pong_frame(&payload));
                Ok(())
            }
            Ok(Message::Pong) => Ok(()),
            Ok(Message::Close) => Err(End::Close(CLOSE_DONE, "")),
            Err(MessageError::TooLong(_)) => Err(End::Close(CLOSE_TOO_LONG, "message too long")),
            Err(MessageError::Invalid(_)) => Err(End::Close(CLOSE_INVALID_DATA, "invalid frame")),
            Err(MessageError::Gone(_)) => Err(End::Gone),
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), End> {
        match request {
            Request::Subscribe {
                subject,
                after,
                epoch,
            } => self.subscribe(subject, after, epoch).await,
            Request::Unsubscribe(subject) => {
                if let Some(token) = self.tokens.get(&subject).copied() {
                    self.forget(token);
                }
                Ok(())
            }
            Request::Ping(id) => {
                self.out.push_text(&protocol::pong(&id));
                Ok(())
            }
        }
    }

    async fn subscribe(
        &mut self,
        subject: Subject,
        after: Option<u64>,
        epoch: Option<crate::model::Epoch>,
    ) -> Result<(), End> {
        if let Some(token) = self.tokens.get(&subject).copied() {
            self.forget(token);
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let problem = format!("a socket has at most {SUBSCRIPTIONS_MAX} subscriptions");
            self.out.push_text(&protocol::error(
                "too_many_subscriptions",
                &problem,
                Some(subject),
            ));
            return Ok(());
        }
        match self.feeds.log(subject).await {
            Ok(Some(log)) => {
                let token = self.next_token;
                self.next_token += 1;
                let waker = Waker::new(self.seat.clone(), self.lane.clone());
                let subscription =
                    Subscription::begin(log, waker, token, after, epoch, &mut self.out);
                self.subscriptions.insert(token, subscription);
                self.tokens.insert(subject, token);
                self.ready.push_back(token);
            }
            Ok(None) => self.out.push_text(&protocol::error(
                "unknown_agent",
                "there is no such agent in this town",
                Some(subject),
            )),
            Err(error) => {
                tracing::error!(%error, "a log can't be opened");
                return Err(End::Close(CLOSE_INTERNAL, "the event log can't be opened"));
            }
        }
        Ok(())
    }

    fn forget(&mut self, token: u64) {
        if let Some(subscription) = self.subscriptions.remove(&token) {
            self.tokens.remove(&subscription.subject());
        }
    }

    fn refuse(&mut self, problem: &str) -> Result<(), End> {
        let now = Instant::now();
        if now.duration_since(self.invalid.0) > INVALID_WINDOW {
            self.invalid = (now, 0);
        }
        self.invalid.1 += 1;
        if self.invalid.1 >= INVALID_MAX {
            return Err(End::Close(CLOSE_NOT_ALLOWED, "too many invalid messages"));
        }
        self.out
            .push_text(&protocol::error("invalid_message", problem, None));
        Ok(())
    }

    /// Says why, if the socket still takes it, and lets go.
    async fn close(&mut self, end: End) {
        if let End::Close(code, reason) = end {
            let frame = writer::close_frame(code, reason);
            // A stalled socket won't take it, and nobody waits for that. A frame that was cut off
            // in the middle can't be followed by another.
            if self.out.byte_len() == 0 {
                let _ = tokio::time::timeout(Duration::from_secs(1), self.writer.write_all(&frame))
                    .await;
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.writer.shutdown()).await;
    }
}

impl<W, F> Serve for Connection<W, F>
where
    W: AsyncWrite + Unpin + Send + 'static,
    F: Feeds + 'static,
{
    fn ready(&mut self) -> &mut VecDeque<u64> {
        &mut self.ready
    }

    fn serve_now(&mut self) -> bool {
        let bytes_max = if self.is_fast() {
            GATHER_BYTES_FAST
        } else {
            GATHER_BYTES
        };
        while self.out.byte_len() < bytes_max
            && let Some(token) = self.ready.pop_front()
        {
            let Some(subscription) = self.subscriptions.get_mut(&token) else {
                continue;
            };
            match subscription.serve_from_memory(&mut self.out, bytes_max, self.frames) {
                InMemory::CaughtUp => {}
                InMemory::More => self.ready.push_back(token),
                InMemory::OnDisk | InMemory::Ended => {
                    self.ready.push_front(token);
                    break;
                }
            }
        }
        match self.out.write_now(&mut self.writer) {
            Ok(written) => {
                self.flowing = self.flowing.saturating_add(written);
                self.ready.is_empty() && self.out.byte_len() == 0
            }
            // The connection's task comes upon it as well.
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
