//! Messages from somebody who is silent most of the time, at no cost meanwhile.
//!
//! The library's reader of frames keeps a buffer of 8 KiB for as long as it lives, more than all
//! else that an idle subscriber needs. So it lives only from the first byte of a frame to the last,
//! and is given exactly that frame: then nothing is left in its buffer when it goes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fastwebsockets::{Role, WebSocketError};
use tokio::io::{AsyncRead, ReadBuf};

use super::message::{Assembly, Message, MessageError};

/// Bytes read at once; a client's messages are some 200 bytes.
const READ_LEN: usize = 2 << 10;

/// Reads messages as [`MessageReader`](super::MessageReader) does.
pub(super) struct PatientReader<R> {
    source: Source<R>,
    role: Role,
    assembly: Assembly,
}

impl<R: AsyncRead + Unpin> PatientReader<R> {
    /// Reads from `io`, whose handshake is done. `role` is this side's.
    pub(super) fn new(io: R, role: Role, message_len_max: usize) -> Self {
        Self {
            source: Source {
                io,
                ahead: Vec::new(),
                left: 0,
            },
            role,
            assembly: Assembly::new(message_len_max),
        }
    }

    /// The next message.
    pub(super) async fn next(mut self) -> (Self, Result<Message, MessageError>) {
        let message = loop {
            if let Err(error) = self.source.begin().await {
                let gone = WebSocketError::IoError(error);
                break Err(MessageError::Gone(gone));
            }
            let mut frames = self.assembly.frames_of(&mut self.source, self.role);
            match self.assembly.step(&mut frames).await {
                Ok(Some(message)) => break Ok(message),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        (self, message)
    }
}

/// Hands on one frame and then says that this is the end.
struct Source<R> {
    io: R,
    /// Read and not handed on yet: at most [`READ_LEN`] and a head.
    ahead: Vec<u8>,
    /// Bytes of the present frame that are not handed on yet.
    left: u64,
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Resolves when the next frame has begun. Nothing is lost if it is cut off.
    async fn begin(&mut self) -> io::Result<()> {
        self.left = loop {
            if let Some(len) = frame_len(&self.ahead) {
                break len;
            }
            if poll_fn(|context| self.poll_more(context)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        Ok(())
    }

    /// Reads some more. The space is on the stack, so that who waits does not keep it.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; READ_LEN];
        let mut read = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut read))?;
        self.ahead.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Source<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left > 0 && self.ahead.is_empty() {
            ready!(self.poll_more(context))?;
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = self.ahead.len().min(left).min(out.remaining());
        out.put_slice(&self.ahead[..len]);
        self.left -= len as u64;
        if len == self.ahead.len() {
            // A few hundred bytes for each of thousands would be kept for nothing.
            self.ahead = Vec::new();
        } else {
            self.ahead.drain(..len);
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes of the frame that begins with `bytes`, head included (RFC 6455, section 5.2); `None` until
/// its head is whole.
fn frame_len(bytes: &[u8]) -> Option<u64> {
    let second = *bytes.get(1)?;
    let mask_len = if second & 0x80 == 0 { 0 } else { 4 };
    let (len_len, len) = match second & 0x7F {
        127 => (8, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        126 => (
            2,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
        ),
        short => (0, u64::from(short)),
    };
    let head = 2 + len_len + mask_len;
    (bytes.len() as u64 >= head).then(|| len.saturating_add(head))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::stream::MessageReader;

    /// A masked frame of a client, of any operation.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ 0..=125), _) => bytes.push(0x80 | short),
            (_, Ok(medium)) => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        let mask = [7u8, 0x80, 3, 0xFF];
        bytes.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn conversation() -> Vec<u8> {
        let long = "x".repeat(40_000);
        let longer = "y".repeat(70_000);
        [
            frame(0x81, b"one"),
            frame(0x81, b""),
            frame(0x81, &long.as_bytes()[..126]),
            frame(0x89, b"are you there?"),
            frame(0x81, long.as_bytes()),
            // One message in three frames, with a pong between them.
            frame(0x01, b"a"),
            frame(0x8A, b""),
            frame(0x00, long.as_bytes()),
            frame(0x80, b"z"),
            frame(0x82, b"bytes"),
            frame(0x81, longer.as_bytes()),
            frame(0x88, &1000u16.to_be_bytes()),
            frame(0x81, b"too late"),
        ]
        .concat()
    }

    /// What comes of a reader: messages, and how it ended.
    macro_rules! heard {
        ($reader:expr) => {{
            let (mut reader, mut all) = ($reader, Vec::new());
            loop {
                let (back, message) = reader.next().await;
                reader = back;
                match message {
                    Ok(message) => all.push(format!("{message:?}")),
                    Err(error) => {
                        all.push(format!("{}", error));
                        break all;
                    }
                }
            }
        }};
    }

    #[tokio::test]
    async fn it_hears_what_the_other_reader_hears_however_the_bytes_come() {
        const MAX: usize = 100_000;
        let mut unmasked = conversation();
        unmasked.extend_from_slice(b"\x81\x02ok");
        let bad_bits = [conversation(), vec![0xF1, 0x80, 0, 0, 0, 0]].concat();
        let bad_text = [frame(0x81, b"fine"), frame(0x81, &[0xC3, 0x28])].concat();
        let too_long = frame(0x81, &vec![b'x'; MAX]);
        let huge = [&[0x81, 0xFF][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
        let cut = conversation()[..40_100].to_vec();
        for bytes in [unmasked, bad_bits, bad_text, too_long, huge, cut] {
            let role = Role::Server;
            let expected = heard!(MessageReader::new(&bytes[..], role, MAX));
            for piece in [1, 2, 5, 999, READ_LEN, 1 << 20] {
                let (mut client, server) = tokio::io::duplex(piece);
                let sent = bytes.clone();
                let sending = async move {
                    // The reader leaves when it has heard enough.
                    let _ = client.write_all(&sent).await;
                };
                let hearing = async { heard!(PatientReader::new(server, role, MAX)) };
                let ((), heard) = tokio::join!(sending, hearing);
                assert_eq!(heard, expected, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn it_keeps_nothing_between_messages() {
        let two = [frame(0x81, b"one"), frame(0x81, b"two")].concat();
        let reader = PatientReader::new(&two[..], Role::Server, 100);
        let (reader, message) = reader.next().await;
        assert_eq!(message.unwrap(), Message::Text("one".to_owned()));
        let (reader, message) = reader.next().await;
        assert_eq!(message.unwrap(), Message::Text("two".to_owned()));
        assert_eq!(reader.source.ahead.capacity(), 0);
    }
}
