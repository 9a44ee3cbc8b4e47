//! The one WebSocket to the server: what is in the spool goes out, acknowledgements come in.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Role, WebSocketError};
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::spool::{Position, Spool, encode};
use crate::clock::Clock;
use crate::container::fleet::FleetHandle;
use crate::container::protocol::{LinkResumed, ServerFrame, message_type};
use crate::container::wire;

/// How long the server may take to say what it has.
const RESUME_TIME_MAX: Duration = Duration::from_secs(10);

/// Frames of one write: the system's own limit for vectored writes is 1024.
const FRAMES_PER_WRITE: usize = 64;

/// The largest frame that the server sends is an acknowledgement.
const SERVER_FRAME_BYTES_MAX: usize = 64 << 10;

/// Answers to pings that wait to be written.
const PONGS_MAX: usize = 8;

/// Knows the live link. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Rises with every link; a link ends when it is not the newest any more.
    newest: Arc<watch::Sender<u64>>,
    live: Arc<AtomicUsize>,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self {
            newest: Arc::new(watch::Sender::new(0)),
            live: Arc::default(),
        }
    }

    /// Whether the server is there.
    pub(crate) fn is_linked(&self) -> bool {
        self.live.load(Ordering::Relaxed) > 0
    }
}

/// Counts a link as live as long as it exists.
struct Live<'a>(&'a AtomicUsize);

impl<'a> Live<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a link works with.
#[derive(Clone, Debug)]
pub(super) struct LinkContext {
    pub(super) spool: Spool,
    pub(super) links: Links,
    pub(super) fleet: FleetHandle,
    pub(super) clock: Clock,
}

impl LinkContext {
    /// Serves a link until it breaks or a newer one comes.
    pub(super) async fn serve(self, upgraded: Upgraded) {
        let Some((read_ahead, read, write)) = wire::upgraded(upgraded) else {
            tracing::error!("the link is not a connection of ours");
            return;
        };
        let mut mine = 0;
        self.links.newest.send_modify(|newest| {
            *newest += 1;
            mine = *newest;
        });
        let mut newest = self.links.newest.subscribe();
        let replaced = newest.wait_for(|newest| *newest != mine);
        let _live = Live::new(&self.links.live);
        // Bytes that came right behind the handshake were read by the HTTP server already.
        let read = AsyncReadExt::chain(std::io::Cursor::new(read_ahead), read);
        let (resumed, resume) = oneshot::channel();
        let (pong, pongs) = mpsc::channel(PONGS_MAX);
        tokio::select! {
            result = self.read(read, resumed, pong) => tracing::info!(?result, "the link ended"),
            result = self.write(write, resume, pongs) => tracing::info!(?result, "the link ended"),
            _ = replaced => tracing::info!("a newer link replaces this one"),
        }
        self.fleet.contact();
    }

    /// Takes in what the server says.
    async fn read(
        &self,
        stream: impl AsyncRead + Unpin,
        resumed: oneshot::Sender<Position>,
        pongs: mpsc::Sender<Bytes>,
    ) -> Result<(), WebSocketError> {
        // The other half is written to directly, so the library gets one that leads nowhere.
        let (mut read, _) =
            fastwebsockets::after_handshake_split(stream, tokio::io::sink(), Role::Server);
        read.set_auto_pong(false);
        read.set_auto_close(false);
        read.set_max_message_size(SERVER_FRAME_BYTES_MAX);
        let mut read = FragmentCollectorRead::new(read);
        let mut resumed = Some(resumed);
        loop {
            let mut nothing = |_: Frame<'_>| std::future::ready(Ok::<(), WebSocketError>(()));
            let frame = read.read_frame(&mut nothing).await?;
            match frame.opcode {
                OpCode::Text => match serde_json::from_slice(&frame.payload) {
                    Ok(ServerFrame::Resume { epoch, after_seq }) => {
                        if let Some(resumed) = resumed.take() {
                            let _ = resumed.send(self.spool.resume(epoch, after_seq));
                        }
                    }
                    Ok(ServerFrame::Ack { seq }) => self.spool.acknowledge(seq),
                    Err(error) => tracing::warn!("the server said something unknown: {error}"),
                },
                OpCode::Ping => {
                    // A peer that pings faster than it reads gets fewer answers.
                    let _ = pongs.try_send(pong_frame(&frame.payload));
                }
                OpCode::Close => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sends what is in the spool, as much per write as there is.
    async fn write(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        resume: oneshot::Receiver<Position>,
        mut pongs: mpsc::Receiver<Bytes>,
    ) -> std::io::Result<()> {
        let position = match tokio::time::timeout(RESUME_TIME_MAX, resume).await {
            Ok(Ok(position)) => position,
            _ => {
                return Err(std::io::Error::other(
                    "the server did not say where to begin",
                ));
            }
        };
        let hello = LinkResumed {
            epoch: self.spool.epoch(),
            next_seq: position.next_seq,
            recovered: position.recovered,
        };
        let hello = serde_json::to_string(&hello)?;
        let hello = encode(
            0,
            None,
            message_type::LINK_RESUMED,
            &hello,
            self.clock.now(),
        );
        write_frames(&mut stream, vec![hello]).await?;
        let mut next_seq = position.next_seq;
        loop {
            tokio::select! {
                biased;
                Some(pong) = pongs.recv() => write_frames(&mut stream, vec![pong]).await?,
                (frames, next) = self.spool.frames(next_seq, FRAMES_PER_WRITE) => {
                    write_frames(&mut stream, frames).await?;
                    next_seq = next;
                }
            }
        }
    }
}

/// Writes frames with as few calls as the system takes them in.
async fn write_frames(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: Vec<Bytes>,
) -> std::io::Result<()> {
    let mut frames = VecDeque::from(frames);
    while !frames.is_empty() {
        let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = frames.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            frames.pop_front();
        }
    }
    stream.flush().await
}

/// An unmasked pong; a ping's payload has at most 125 bytes.
fn pong_frame(payload: &[u8]) -> Bytes {
    const FIN_PONG: u8 = 0x8a;
    const CONTROL_BYTES_MAX: usize = 125;
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let length = u8::try_from(payload.len()).unwrap_or(0);
    let mut frame = vec![FIN_PONG, length];
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}
