//! Values of any size as rows of a bounded size.
//!
//! sled stores pages beyond some 20 KB in files of their own and does not sync those. So a value
//! longer than [`CHUNK_LEN_MAX`] is stored as a head row (`2`, chunk count) and numbered chunk
//! rows under `0xFF ++ key ++ 0x00 ++ index`; a short one as `1 ++ value`. Head and chunks are in
//! the same batch, so they are there together or not at all.

use sled::IVec;

use super::Error;
use super::batch::Write;

/// The longest run of bytes stored in one row. Measured: values of 5 KB make no blob files, values
/// of 20 KB do.
pub const CHUNK_LEN_MAX: usize = 5 * 1024;

const INLINE: u8 = 1;
const SPLIT: u8 = 2;
/// Chunk rows sort behind every ordinary key, so that no prefix scan meets one.
const CHUNK_TAG: u8 = 0xFF;

/// What is under a key from now on; `None` for nothing.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// Appends to `rows` what a write comes to.
pub(super) fn stage(tree: &sled::Tree, write: Write, rows: &mut Vec<Row>) -> Result<(), Error> {
    if write.replaces {
        let former = tree
            .get(&write.key)?
            .map_or(Ok(0), |head| chunk_count(&head))?;
        for index in 0..former {
            rows.push((chunk_key(&write.key, index), None));
        }
    }
    let Some(value) = write.value else {
        rows.push((write.key, None));
        return Ok(());
    };
    if value.len() <= CHUNK_LEN_MAX {
        let mut row = Vec::with_capacity(value.len() + 1);
        row.push(INLINE);
        row.extend_from_slice(&value);
        rows.push((write.key, Some(row)));
        return Ok(());
    }
    let mut count = 0u32;
    for chunk in value.chunks(CHUNK_LEN_MAX) {
        rows.push((chunk_key(&write.key, count), Some(chunk.to_vec())));
        count += 1;
    }
    let mut head = vec![SPLIT];
    head.extend_from_slice(&count.to_be_bytes());
    rows.push((write.key, Some(head)));
    Ok(())
}

/// Whether the value behind a head row is in rows of its own.
pub(super) fn is_split(head: &[u8]) -> bool {
    head.first() == Some(&SPLIT)
}

/// A value as it was read. A short one stays in the memory that sled read it into: copying it would
/// cost a reader of a log as much as the rest of the read.
#[derive(Debug)]
pub(super) enum Value {
    /// A head row with the value in it.
    Inline(IVec),
    /// Put together from chunks.
    Joined(Vec<u8>),
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Inline(head) => &head[1..],
            Self::Joined(value) => value,
        }
    }
}

/// The value that a head row stands for. If it is split, nobody may write between the reading of
/// the head and the end of this.
pub(super) fn load(tree: &sled::Tree, key: &[u8], head: &IVec) -> Result<Value, Error> {
    let count = chunk_count(head)?;
    if count == 0 {
        return Ok(Value::Inline(head.clone()));
    }
    let mut value = Vec::with_capacity(CHUNK_LEN_MAX * count as usize);
    for index in 0..count {
        let chunk = tree
            .get(chunk_key(key, index))?
            .ok_or_else(|| damaged(format!("chunk {index} of {count} is missing")))?;
        value.extend_from_slice(&chunk);
    }
    Ok(Value::Joined(value))
}

fn chunk_count(head: &[u8]) -> Result<u32, Error> {
    match head {
        [INLINE, ..] => Ok(0),
        [SPLIT, a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(damaged("unknown head".to_owned())),
    }
}

fn chunk_key(key: &[u8], index: u32) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 6);
    row.push(CHUNK_TAG);
    row.extend_from_slice(key);
    row.push(0);
    row.extend_from_slice(&index.to_be_bytes());
    row
}

fn damaged(detail: String) -> Error {
    Error::Damaged {
        what: "value",
        detail,
    }
}
