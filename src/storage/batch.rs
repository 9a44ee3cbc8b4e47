//! What one command writes: all of it or nothing.

use super::codec::{self, Record};
use super::keys::Key;

/// Puts and deletes for one tree, applied atomically in the order given.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) writes: Vec<Write>,
    /// Whether it is taken when the disk is nearly full.
    pub(super) frees: bool,
}

#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    /// Whether an earlier value under this key may have been split into chunks.
    pub(super) replaces: bool,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that will free space: it may use part of the reserve on a full disk.
    #[must_use]
    pub fn freeing() -> Self {
        Self {
            frees: true,
            ..Self::default()
        }
    }

    /// Whether it would write nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many rows it writes or removes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Writes `row` under `key`, replacing what was there.
    pub fn put<K: Key>(&mut self, key: &K, row: &K::Row) {
        self.push(key.encode(), Some(codec::encode(row)), true);
    }

    /// Writes `row` and then `tail`'s bytes under a key that was never written before.
    pub fn append<K: Key>(&mut self, key: &K, row: &K::Row, tail: &[u8]) {
        let mut value = codec::encode_with_tail(row, tail.len());
        value.extend_from_slice(tail);
        self.push(key.encode(), Some(value), false);
    }

    /// Removes what is under `key`, if anything is.
    pub fn delete<K: Key>(&mut self, key: &K) {
        self.push(key.encode(), None, true);
    }

    fn push(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, replaces: bool) {
        self.writes.push(Write {
            key,
            value,
            replaces,
        });
    }
}

impl Batch {
    /// Bytes of its keys and values.
    pub(super) fn byte_len(&self) -> usize {
        let of = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, Vec::len);
        self.writes.iter().map(of).sum()
    }

    /// Puts or deletes, by whether there is a row.
    pub fn set<K: Key>(&mut self, key: &K, row: Option<&K::Row>)
    where
        K::Row: Record,
    {
        match row {
            Some(row) => self.put(key, row),
            None => self.delete(key),
        }
    }
}
