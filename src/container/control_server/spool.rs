//! What the server has not acknowledged yet, as finished WebSocket frames.
//!
//! Written by the fleet alone, read by the link. A message is encoded once, when it is appended,
//! and shared from then on. The bound is kept by pausing the source: [`Spool::room`] resolves when
//! there is room again. The container's own messages are few and never wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::container::protocol::MESSAGE_BYTES_MAX;
use crate::model::{AgentId, Epoch, Timestamp};

/// The most bytes that wait for an acknowledgement: three minutes of eight busy agents, with room.
pub(crate) const SPOOL_BYTES_MAX: usize = 64 << 20;

/// The most messages that wait, so that the queue's own overhead is bounded too.
pub(crate) const SPOOL_MESSAGES_MAX: usize = 200_000;

/// Longest header of an unmasked WebSocket frame.
const FRAME_HEADER_MAX: usize = 10;

/// The spool of one container process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    epoch: Epoch,
    state: Arc<Mutex<State>>,
    /// Something was appended or the spool was closed.
    appended: Arc<Notify>,
    /// Something was acknowledged.
    acknowledged: Arc<Notify>,
    bytes_max: usize,
    messages_max: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The sequence of the first frame that is held, or of the next one if none is.
    first_seq: u64,
}

impl State {
    fn next_seq(&self) -> u64 {
        self.first_seq + self.frames.len() as u64
    }

    fn drop_through(&mut self, seq: u64) {
        while self.first_seq <= seq
            && let Some(frame) = self.frames.pop_front()
        {
            self.bytes -= frame.len();
            self.first_seq += 1;
        }
    }
}

/// Where a link begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The sequence of its first message.
    pub(crate) next_seq: u64,
    /// Whether that is what the server asked for.
    pub(crate) recovered: bool,
}

impl Spool {
    /// An empty spool of a new epoch.
    pub(crate) fn new() -> Self {
        Self::bounded(SPOOL_BYTES_MAX, SPOOL_MESSAGES_MAX)
    }

    /// The same with other bounds.
    pub(crate) fn bounded(bytes_max: usize, messages_max: usize) -> Self {
        let state = State {
            first_seq: 1,
            ..State::default()
        };
        Self {
            epoch: Epoch::random(),
            state: Arc::new(Mutex::new(state)),
            appended: Arc::default(),
            acknowledged: Arc::default(),
            bytes_max,
            messages_max,
        }
    }

    /// The life that the sequences belong to.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Appends a message; `data` is JSON text that is copied as it is.
    pub(crate) fn append(&self, agent: Option<AgentId>, kind: &str, data: &str, now: Timestamp) {
        {
            let mut state = self.state();
            let seq = state.next_seq();
            let frame = if data.len() + 1024 > MESSAGE_BYTES_MAX {
                tracing::warn!(kind, bytes = data.len(), "an event is too large to be kept");
                let note = format!(r#"{{"truncated":true,"bytes":{}}}"#, data.len());
                encode(seq, agent, kind, &note, now)
            } else {
                encode(seq, agent, kind, data, now)
            };
            state.bytes += frame.len();
            state.frames.push_back(frame);
        }
        self.appended.notify_waiters();
    }

    /// Resolves when there is room for more.
    pub(crate) async fn room(&self) {
        loop {
            // Registered before the look, so that no acknowledgement falls in between.
            let acknowledged = self.acknowledged.notified();
            if self.has_room() {
                return;
            }
            acknowledged.await;
        }
    }

    fn has_room(&self) -> bool {
        let state = self.state();
        state.bytes < self.bytes_max && state.frames.len() < self.messages_max
    }

    /// Resolves when everything was acknowledged.
    pub(crate) async fn emptied(&self) {
        loop {
            let acknowledged = self.acknowledged.notified();
            if self.state().frames.is_empty() {
                return;
            }
            acknowledged.await;
        }
    }

    /// Drops everything up to `seq`.
    pub(crate) fn acknowledge(&self, seq: u64) {
        self.state().drop_through(seq);
        self.acknowledged.notify_waiters();
    }

    /// Where a link begins whose server has everything up to `after_seq` of `epoch` on disk; that is
    /// also an acknowledgement.
    pub(crate) fn resume(&self, epoch: Option<Epoch>, after_seq: u64) -> Position {
        let position = {
            let mut state = self.state();
            let known = epoch == Some(self.epoch)
                && after_seq < state.next_seq()
                && after_seq + 1 >= state.first_seq;
            if known {
                state.drop_through(after_seq);
            }
            Position {
                next_seq: state.first_seq,
                recovered: known,
            }
        };
        self.acknowledged.notify_waiters();
        position
    }

    /// The frames from `next_seq` on, as many as one write may take; waits until there is one. What
    /// was acknowledged meanwhile is skipped; also gives the sequence after them.
    pub(crate) async fn frames(&self, next_seq: u64, frames_max: usize) -> (Vec<Bytes>, u64) {
        loop {
            let appended = self.appended.notified();
            let (frames, next) = self.frames_now(next_seq, frames_max);
            if !frames.is_empty() {
                return (frames, next);
            }
            appended.await;
        }
    }

    fn frames_now(&self, next_seq: u64, frames_max: usize) -> (Vec<Bytes>, u64) {
        let state = self.state();
        let begin = next_seq.max(state.first_seq);
        let skipped = usize::try_from(begin - state.first_seq).unwrap_or(usize::MAX);
        let frames: Vec<Bytes> = state
            .frames
            .iter()
            .skip(skipped)
            .take(frames_max)
            .cloned()
            .collect();
        let next = begin + frames.len() as u64;
        (frames, next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as one finished, unmasked text frame.
pub(crate) fn encode(
    seq: u64,
    agent: Option<AgentId>,
    kind: &str,
    data: &str,
    now: Timestamp,
) -> Bytes {
    use std::fmt::Write;

    let mut text = String::with_capacity(FRAME_HEADER_MAX + 160 + kind.len() + data.len());
    // Room for the frame's header, whose length is known only at the end.
    text.push_str("          ");
    let kind = serde_json::to_string(kind).expect("a string is always JSON");
    let agent = agent.map_or_else(|| "null".to_owned(), |agent| format!("\"{agent}\""));
    write!(
        text,
        r#"{{"seq":{seq},"agentId":{agent},"type":{kind},"data":{data},"timestamp":"{now}"}}"#
    )
    .expect("writing to a string can't fail");
    let mut bytes = text.into_bytes();
    let header = frame_header(bytes.len() - FRAME_HEADER_MAX);
    let start = FRAME_HEADER_MAX - header.len();
    bytes[start..FRAME_HEADER_MAX].copy_from_slice(&header);
    Bytes::from(bytes).slice(start..)
}

/// The header of an unmasked, unfragmented text frame (RFC 6455, 5.2).
fn frame_header(length: usize) -> Vec<u8> {
    const FIN_TEXT: u8 = 0x81;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => vec![FIN_TEXT, length],
        (_, Ok(length)) => {
            let [high, low] = length.to_be_bytes();
            vec![FIN_TEXT, 126, high, low]
        }
        _ => {
            let mut header = vec![FIN_TEXT, 127];
            header.extend_from_slice(&(length as u64).to_be_bytes());
            header
        }
    }
}
