//! Runs of consecutive events as they are stored and sent.

use std::sync::Arc;

use bytes::Bytes;

use crate::storage::{CHUNK_LEN_MAX, LinkPosition, SegmentHead};

/// Bytes of frames in a stored segment, so that head and frames fit one row; a single larger event
/// makes a segment of its own, which storage splits.
pub(super) const SEGMENT_LEN_MAX: usize = CHUNK_LEN_MAX - 600;
/// Events in a segment: their offsets take 4 bytes each of the same row.
pub(super) const SEGMENT_EVENTS_MAX: usize = 64;

/// A committed run of events; cheap to clone, shared by all who send it.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    first_id: u64,
    offsets: Vec<u32>,
    frames: Bytes,
}

impl Segment {
    pub(super) fn new(head: SegmentHead, frames: Bytes) -> Self {
        Self(Arc::new(Inner {
            first_id: head.first_id,
            offsets: head.offsets,
            frames,
        }))
    }

    /// The id of its first event.
    #[must_use]
    pub fn first_id(&self) -> u64 {
        self.0.first_id
    }

    /// The id of its last event.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.0.first_id + self.0.offsets.len() as u64 - 1
    }

    /// How many events it holds.
    pub(super) fn len(&self) -> usize {
        self.0.offsets.len()
    }

    /// Bytes of its frames.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.frames.len()
    }

    /// The part from the event `from` on; the whole if that is earlier.
    #[must_use]
    pub fn slice_from(&self, from: u64) -> Slice {
        let (skip, start) = self.place(from);
        Slice {
            segment: self.clone(),
            skip,
            start,
        }
    }

    /// The frames of that part.
    pub(super) fn bytes_from(&self, from: u64) -> Bytes {
        self.0.frames.slice(self.place(from).1..)
    }

    /// How many events are before `from`, and how many bytes.
    fn place(&self, from: u64) -> (usize, usize) {
        let skip = usize::try_from(from.saturating_sub(self.0.first_id)).unwrap_or(usize::MAX);
        let offset = self.0.offsets.get(skip);
        let start = offset.map_or(self.0.frames.len(), |at| *at as usize);
        (skip.min(self.0.offsets.len()), start)
    }
}

/// The rest of a segment behind a cursor.
#[derive(Clone, Debug)]
pub struct Slice {
    segment: Segment,
    skip: usize,
    start: usize,
}

impl Slice {
    /// The frames, back to back.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.segment.0.frames.slice(self.start..)
    }

    /// The id of the first event in it.
    #[must_use]
    pub fn first_id(&self) -> u64 {
        self.segment.first_id() + self.skip as u64
    }

    /// The id of the last event in it.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.segment.last_id()
    }

    /// Each frame alone.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let offsets = &self.segment.0.offsets;
        let frames = &self.segment.0.frames;
        (self.skip..offsets.len()).map(move |at| {
            let end = offsets
                .get(at + 1)
                .map_or(frames.len(), |end| *end as usize);
            &frames[offsets[at] as usize..end]
        })
    }
}

/// Collects frames into segments of the right size.
#[derive(Debug)]
pub(super) struct SegmentBuilder {
    done: Vec<(SegmentHead, Bytes)>,
    head: SegmentHead,
    frames: Vec<u8>,
}

impl SegmentBuilder {
    pub(super) fn new(first_id: u64, bytes_before: u64) -> Self {
        Self {
            done: Vec::new(),
            head: empty_head(first_id, bytes_before),
            frames: Vec::new(),
        }
    }

    /// Adds the next event; `push` appends exactly its frame.
    pub(super) fn push(&mut self, link: Option<LinkPosition>, push: impl FnOnce(&mut Vec<u8>)) {
        let start = self.frames.len();
        push(&mut self.frames);
        if start > 0
            && (self.frames.len() > SEGMENT_LEN_MAX
                || self.head.offsets.len() >= SEGMENT_EVENTS_MAX)
        {
            self.cut(start);
        }
        let offset = if self.head.offsets.is_empty() {
            0
        } else {
            start
        };
        self.head
            .offsets
            .push(u32::try_from(offset).expect("segments are small"));
        self.head.link = link.or(self.head.link);
    }

    pub(super) fn finish(mut self) -> Vec<(SegmentHead, Bytes)> {
        if !self.head.offsets.is_empty() {
            self.cut(self.frames.len());
        }
        self.done
    }

    /// Ends the segment with the first `len` bytes; the rest begins the next one. The frames get
    /// memory of exactly their size, because they may be kept for long.
    fn cut(&mut self, len: usize) {
        let next = self.head.first_id + self.head.offsets.len() as u64;
        let next = empty_head(next, self.head.bytes_before + len as u64);
        let mut head = std::mem::replace(&mut self.head, next);
        self.head.link = head.link;
        head.offsets.shrink_to_fit();
        self.done
            .push((head, Bytes::copy_from_slice(&self.frames[..len])));
        self.frames.drain(..len);
    }
}

fn empty_head(first_id: u64, bytes_before: u64) -> SegmentHead {
    SegmentHead {
        first_id,
        offsets: Vec::new(),
        link: None,
        bytes_before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_began() {
        let mut builder = SegmentBuilder::new(5, 70);
        let lens: Vec<usize> = (0..300)
            .map(|n| 1 + (n * 37) % 900)
            .chain([20_000, 3])
            .collect();
        for (n, len) in lens.iter().enumerate() {
            builder.push(None, |out| {
                out.extend(std::iter::repeat_n(u8::try_from(n % 251).unwrap(), *len))
            });
        }
        let (mut next, mut bytes) = (5, 70);
        let mut seen = Vec::new();
        for (head, frames) in builder.finish() {
            assert_eq!((head.first_id, head.bytes_before), (next, bytes));
            bytes += frames.len() as u64;
            assert!(frames.len() <= SEGMENT_LEN_MAX || head.offsets.len() == 1);
            let segment = Segment::new(head, frames);
            next = segment.last_id() + 1;
            for (at, frame) in segment.slice_from(0).frames().enumerate() {
                let id = segment.first_id() + at as u64;
                assert_eq!(segment.slice_from(id).first_id(), id);
                assert_eq!(segment.slice_from(id).frames().next().unwrap(), frame);
                assert!(segment.slice_from(id).bytes().starts_with(frame));
                seen.push(frame.len());
            }
            assert!(segment.slice_from(next).bytes().is_empty());
        }
        assert_eq!(seen, lens);
    }
}
