//! WebSocket frames as they are on the wire, read in place and made without a library, because the
//! load shares the processors with what it measures.

use std::io::{ErrorKind, Read};

/// Bytes taken in by one system call.
const READ_LEN: usize = 256 << 10;
/// The largest frame that is taken: an event of 1 MiB with its envelope.
const FRAME_LEN_MAX: usize = 2 << 20;
/// `{"agentId":"` and the id, up to the event's own id.
const ID_MARK: (usize, &[u8]) = (48, br#"","id":"#);
const AGENT_AT: std::ops::Range<usize> = 12..48;
/// `,"timestamp":"2026-11-22T06:30:08.945Z"}`
const STAMP_LEN: usize = 40;

pub(crate) const OP_TEXT: u8 = 1;
pub(crate) const OP_CLOSE: u8 = 8;
pub(crate) const OP_PING: u8 = 9;

/// Where a frame's parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) op: u8,
    masked: bool,
    pub(crate) payload_at: usize,
    pub(crate) len: usize,
}

/// Reads the head of the frame at the beginning of `bytes`; `None` if more bytes are needed.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let masked = second & 0x80 != 0;
    let (at, len) = match second & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let payload_at = at + if masked { 4 } else { 0 };
    let len = payload_at + usize::try_from(len).ok()?;
    Some(Head {
        op: first & 0x0f,
        masked,
        payload_at,
        len,
    })
}

/// Reads whole frames from sockets; one buffer serves them all.
#[derive(Debug)]
pub(crate) struct FrameBuffer(Vec<u8>);

/// The beginning of a frame whose rest has not come yet; one per socket, empty most of the time.
pub(crate) type Carry = Vec<u8>;

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Bytes(usize),
    Nothing,
    Ended,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self(vec![0; FRAME_LEN_MAX + READ_LEN])
    }
}

impl FrameBuffer {
    /// One read, and `each` for every frame that is whole now.
    pub(crate) fn take(
        &mut self,
        source: &mut impl Read,
        carry: &mut Carry,
        mut each: impl FnMut(u8, &[u8]),
    ) -> Result<Taken, String> {
        let held = carry.len();
        self.0[..held].copy_from_slice(carry);
        let read = match source.read(&mut self.0[held..held + READ_LEN]) {
            Ok(0) => return Ok(Taken::Ended),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Taken::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Taken::Nothing),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Taken::Ended),
            Err(error) => return Err(error.to_string()),
        };
        carry.clear();
        let rest = split(&mut self.0[..held + read], &mut each)?;
        carry.extend_from_slice(rest);
        Ok(Taken::Bytes(read))
    }
}

/// Calls `each` for every whole frame and gives back what is left.
pub(crate) fn split<'a>(
    mut bytes: &'a mut [u8],
    each: &mut impl FnMut(u8, &[u8]),
) -> Result<&'a [u8], String> {
    loop {
        let Some(head) = head(bytes) else {
            return Ok(bytes);
        };
        if head.len > FRAME_LEN_MAX {
            return Err(format!("a frame of {} bytes", head.len));
        }
        if bytes.len() < head.len {
            return Ok(bytes);
        }
        let (frame, rest) = bytes.split_at_mut(head.len);
        if head.masked {
            unmask(frame, head.payload_at);
        }
        each(head.op, &frame[head.payload_at..]);
        bytes = rest;
    }
}

fn unmask(frame: &mut [u8], payload_at: usize) {
    let (head, payload) = frame.split_at_mut(payload_at);
    let mask = &head[payload_at - 4..];
    if mask == [0; 4] {
        return;
    }
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
}

/// An event as it stands in a text frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) agent: &'a [u8],
    pub(crate) id: u64,
    /// From `"type":` up to the timestamp: what the producer gave.
    pub(crate) content: &'a [u8],
}

/// The event in a text frame's payload; `None` if it is another message.
pub(crate) fn event(payload: &[u8]) -> Option<Event<'_>> {
    let (at, mark) = ID_MARK;
    let rest = payload.get(at..)?.strip_prefix(mark)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut id = 0u64;
    for digit in &rest[..digits] {
        id = id * 10 + u64::from(digit - b'0');
    }
    Some(Event {
        agent: payload.get(AGENT_AT)?,
        id,
        content: rest.get(digits + 1..rest.len().checked_sub(STAMP_LEN)?)?,
    })
}

/// Appends to `out` the frame that the server sends for such an event.
pub(crate) fn push_event(out: &mut Vec<u8>, agent: &str, id: u64, content: &str) {
    use std::io::Write as _;
    let stamp = "2026-11-22T06:30:08.945Z";
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let _ = write!(
        out,
        r#"{{"agentId":"{agent}","id":{id},{content},"timestamp":"{stamp}"}}"#
    );
    let len = out.len() - start - 4;
    out[start] = 0x81;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => {
            out[start + 1] = short;
            out.drain(start + 2..start + 4);
        }
        (_, Ok(medium)) => {
            out[start + 1] = 126;
            out[start + 2..start + 4].copy_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out[start + 1] = 127;
            out.splice(start + 2..start + 4, (len as u64).to_be_bytes());
        }
    }
}

/// A fingerprint of what an event carries: eight bytes at a time, because it is taken of millions.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = PRIME ^ bytes.len() as u64;
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(PRIME).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    for byte in rest {
        mix(u64::from(*byte));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "00000000-0000-4000-8000-000000000007";

    /// Gives its bytes in pieces of one length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let len = self.1.min(self.0.len()).min(out.len());
            out[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn frames_of_any_length_are_read_whole_however_they_come() {
        let contents: Vec<String> = [0usize, 20, 60, 300, 65_000, 66_000, 5]
            .iter()
            .map(|len| format!(r#""type":"t","data":"{}""#, "x".repeat(*len)))
            .collect();
        let mut bytes = Vec::new();
        for (id, content) in (98..).zip(&contents) {
            push_event(&mut bytes, AGENT, id, content);
        }
        for piece in [1, 7, 333, 100_000] {
            let (mut buffer, mut carry) = (FrameBuffer::default(), Carry::new());
            let mut source = Pieces(&bytes, piece);
            let mut seen = Vec::new();
            while buffer
                .take(&mut source, &mut carry, |op, payload| {
                    let event = event(payload).unwrap();
                    assert_eq!((op, event.agent), (OP_TEXT, AGENT.as_bytes()));
                    seen.push((
                        event.id,
                        String::from_utf8_lossy(event.content).into_owned(),
                    ));
                })
                .unwrap()
                != Taken::Ended
            {}
            let expected: Vec<_> = (98..).zip(contents.iter().cloned()).collect();
            assert_eq!(seen, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_masked_frame_is_read_and_another_message_is_no_event() {
        let mut frame = gastownd::stream::client_text_frame(r#"{"type":"ack","seq":7}"#);
        let mask = [1u8, 2, 3, 4];
        frame[2..6].copy_from_slice(&mask);
        for (index, byte) in frame[6..].iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        let mut texts = Vec::new();
        let rest = split(&mut frame, &mut |_, payload: &[u8]| {
            assert!(event(payload).is_none());
            texts.push(String::from_utf8_lossy(payload).into_owned());
        });
        assert_eq!(rest.unwrap(), b"");
        assert_eq!(texts, [r#"{"type":"ack","seq":7}"#]);
    }

    #[test]
    fn fingerprints_differ() {
        let all = [&b""[..], b"a", b"b", b"aaaaaaaa", b"aaaaaaab", b"aaaaaaaaa"];
        let mut prints: Vec<_> = all.iter().map(|bytes| fingerprint(bytes)).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), all.len());
    }
}
