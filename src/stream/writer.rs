//! Prepared frames to a socket: vectored, and never waiting for ever.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// A socket that accepts no byte for this long is given up; its client resumes where it was.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Slices handed to one system call; the kernel takes at most 1024, and beyond some dozens the
/// call itself no longer matters.
const SLICES_MAX: usize = 64;
/// Room for slices that an outbox keeps when it is empty.
const SLICES_KEPT: usize = 4;

const FINAL_CLOSE: u8 = 0x88;
const FINAL_PONG: u8 = 0x8A;
const FINAL_PING: u8 = 0x89;
const FINAL_TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;

/// Frames that wait to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    slices: std::collections::VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, frames: Bytes) {
        self.bytes += frames.len();
        if !frames.is_empty() {
            self.slices.push_back(frames);
        }
    }

    pub(super) fn push_text(&mut self, payload: &str) {
        self.push(crate::agent_log::text_frame(payload).into());
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Everything, back to back.
    #[cfg(test)]
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.slices.into_iter().flatten().collect()
    }

    /// Writes everything; the longest time that the socket let it wait.
    ///
    /// # Errors
    /// `TimedOut` if the socket accepted nothing for [`STALL_TIMEOUT`]; otherwise the socket's own.
    pub(super) async fn write_to(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<Duration> {
        let mut waited = Duration::ZERO;
        while !self.slices.is_empty() {
            let written = match self.try_write(io).await {
                Some(written) => written?,
                None => {
                    let begun = Instant::now();
                    let written = tokio::time::timeout(STALL_TIMEOUT, self.write(io))
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    waited = waited.max(begun.elapsed());
                    written
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        // What a burst needed is not kept by a connection that is idle from now on.
        if self.slices.capacity() > SLICES_KEPT {
            self.slices = std::collections::VecDeque::new();
        }
        Ok(waited)
    }

    /// Writes what the socket takes at once; how much that was. Whoever waits for the socket is not
    /// told any more when it takes something again.
    ///
    /// # Errors
    /// The socket's own.
    pub(super) fn write_now(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        let before = self.bytes;
        let mut context = Context::from_waker(std::task::Waker::noop());
        while !self.slices.is_empty() {
            match self.poll_write(io, &mut context) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.advance(written?),
                Poll::Pending => break,
            }
        }
        Ok(before - self.bytes)
    }

    /// Writes what the socket takes at once; `None` if it takes nothing.
    async fn try_write(&self, io: &mut (impl AsyncWrite + Unpin)) -> Option<io::Result<usize>> {
        poll_fn(|context| match self.poll_write(io, context) {
            Poll::Ready(written) => Poll::Ready(Some(written)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    async fn write(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(io, context)).await
    }

    /// The slices live on the stack, so that a connection that waits does not keep them.
    fn poll_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // Mostly it is one event, and one slice costs the system less than a list of one.
        if let (1, Some(slice)) = (self.slices.len(), self.slices.front()) {
            return Pin::new(io).poll_write(context, slice);
        }
        let mut batch = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.slices.len().min(SLICES_MAX);
        for (slot, slice) in batch.iter_mut().zip(&self.slices) {
            *slot = IoSlice::new(slice);
        }
        Pin::new(io).poll_write_vectored(context, &batch[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let Some(front) = self.slices.front_mut() else {
                return;
            };
            let step = front.len().min(written);
            front.advance(step);
            written -= step;
            if front.is_empty() {
                self.slices.pop_front();
            }
        }
    }
}

/// A close frame with a code and a short reason (at most 123 bytes are kept).
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason.as_bytes()[..reason.len().min(123)];
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason);
    control_frame(FINAL_CLOSE, &payload)
}

pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    control_frame(FINAL_PONG, payload)
}

pub(super) fn ping_frame() -> Bytes {
    control_frame(FINAL_PING, &[])
}

/// A control frame; its payload is at most 125 bytes (RFC 6455, 5.5).
fn control_frame(first: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(125)];
    let mut frame = vec![first, u8::try_from(payload.len()).expect("cut to 125")];
    frame.extend_from_slice(payload);
    frame.into()
}

/// A text frame of a client. The mask is zero: it hides nothing on a socket that only the server's
/// user can open, and spares a pass over the bytes.
#[must_use]
pub fn client_text_frame(payload: &str) -> Vec<u8> {
    let mut frame = vec![FINAL_TEXT];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(MASKED | short),
        (_, Ok(medium)) => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload.as_bytes());
    frame
}
