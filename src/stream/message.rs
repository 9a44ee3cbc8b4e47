//! Whole messages from a WebSocket's read half.

use std::convert::Infallible;
use std::future::Ready;

use fastwebsockets::{OpCode, Role, WebSocketError, WebSocketRead, after_handshake_split};
use tokio::io::{AsyncRead, Sink, sink};

/// A message of the other side.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Text; valid UTF-8.
    Text(String),
    /// Bytes, which nobody here expects.
    Binary,
    /// Wants a pong with the same bytes.
    Ping(Vec<u8>),
    /// Answers a ping.
    Pong,
    /// The other side is done.
    Close,
}

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than allowed.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    /// Not WebSocket, or not UTF-8.
    #[error("the frame is not valid")]
    Invalid(#[source] WebSocketError),
    /// The connection is gone.
    #[error("the connection ended")]
    Gone(#[source] WebSocketError),
}

/// Reads messages of a bounded length. [`MessageReader::next`] takes and gives back the reader, so
/// that its future can be kept while something else is done first: a read is never cut in half.
/// It keeps a buffer of 8 KiB; for one of thousands that hardly ever say anything, see
/// `PatientReader`.
pub struct MessageReader<R> {
    frames: WebSocketRead<R>,
    assembly: Assembly,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads from `io`, whose handshake is done. `role` is this side's.
    pub fn new(io: R, role: Role, message_len_max: usize) -> Self {
        let assembly = Assembly::new(message_len_max);
        let frames = assembly.frames_of(io, role);
        Self { frames, assembly }
    }

    /// The next message.
    pub async fn next(mut self) -> (Self, Result<Message, MessageError>) {
        let message = loop {
            match self.assembly.step(&mut self.frames).await {
                Ok(Some(message)) => break Ok(message),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        (self, message)
    }
}

/// Puts messages of a bounded length together from frames.
pub(super) struct Assembly {
    message_len_max: usize,
    partial: Option<Vec<u8>>,
}

impl Assembly {
    pub(super) fn new(message_len_max: usize) -> Self {
        Self {
            message_len_max,
            partial: None,
        }
    }

    /// The library's reader of frames of a bounded length.
    pub(super) fn frames_of<R: AsyncRead + Unpin>(&self, io: R, role: Role) -> WebSocketRead<R> {
        let (mut frames, _): (_, fastwebsockets::WebSocketWrite<Sink>) =
            after_handshake_split(io, sink(), role);
        // Answers are the connection's to write.
        frames.set_auto_close(false);
        frames.set_auto_pong(false);
        frames.set_max_message_size(self.message_len_max);
        frames
    }

    /// Reads one frame; the message, if it is whole now.
    pub(super) async fn step<R: AsyncRead + Unpin>(
        &mut self,
        frames: &mut WebSocketRead<R>,
    ) -> Result<Option<Message>, MessageError> {
        let limit = self.message_len_max;
        let no_answers = &mut |_| -> Ready<Result<(), Infallible>> { std::future::ready(Ok(())) };
        let frame = frames
            .read_frame(no_answers)
            .await
            .map_err(|error| match error {
                WebSocketError::FrameTooLarge => MessageError::TooLong(limit),
                WebSocketError::IoError(_)
                | WebSocketError::UnexpectedEOF
                | WebSocketError::ConnectionClosed => MessageError::Gone(error),
                other => MessageError::Invalid(other),
            })?;
        match frame.opcode {
            OpCode::Close => Ok(Some(Message::Close)),
            OpCode::Ping => Ok(Some(Message::Ping(frame.payload.to_vec()))),
            OpCode::Pong => Ok(Some(Message::Pong)),
            OpCode::Binary => Ok(frame.fin.then_some(Message::Binary)),
            OpCode::Text => {
                if frame.fin {
                    return text(frame.payload.into());
                }
                let payload = frame.payload.to_vec();
                self.accumulate(false, Vec::new(), &payload)
            }
            OpCode::Continuation => {
                let (fin, payload) = (frame.fin, frame.payload.to_vec());
                match self.partial.take() {
                    Some(partial) => self.accumulate(fin, partial, &payload),
                    // The end of a binary message, which was not kept.
                    None => Ok(fin.then_some(Message::Binary)),
                }
            }
        }
    }

    /// fastwebsockets bounds a frame; a message of many frames is bounded here.
    fn accumulate(
        &mut self,
        fin: bool,
        mut message: Vec<u8>,
        payload: &[u8],
    ) -> Result<Option<Message>, MessageError> {
        if message.len() + payload.len() > self.message_len_max {
            return Err(MessageError::TooLong(self.message_len_max));
        }
        message.extend_from_slice(payload);
        if !fin {
            self.partial = Some(message);
            return Ok(None);
        }
        text(message)
    }
}

fn text(payload: Vec<u8>) -> Result<Option<Message>, MessageError> {
    String::from_utf8(payload)
        .map(|text| Some(Message::Text(text)))
        .map_err(|_| MessageError::Invalid(WebSocketError::InvalidUTF8))
}
