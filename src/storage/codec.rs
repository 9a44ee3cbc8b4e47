//! Rows to bytes and back: a version byte, then bincode with every option spelled out.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;

use super::Error;

/// The layout that rows are written in. Rows of older ones stay as they are until they change.
const VERSION: u8 = 4;

/// In which layout the row that is being decoded was written.
#[derive(Clone, Copy, Debug)]
pub struct LayoutVersion(pub(super) u8);

/// The most memory that decoding one row may claim, so that damaged lengths are errors and not
/// allocations. A row holds at most one request body (1 MiB by default).
const ROW_LEN_MAX: usize = 64 << 20;

const LAYOUT: Configuration<LittleEndian, Fixint, Limit<ROW_LEN_MAX>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<ROW_LEN_MAX>();

/// A row's layout on disk. Implemented in `layout` only, where the order of fields is written
/// down apart from the order in the model.
pub trait Record: bincode::Encode + bincode::Decode<LayoutVersion> {
    /// What the row is, for errors.
    const NAME: &'static str;
}

pub(super) fn encode<R: Record>(row: &R) -> Vec<u8> {
    encode_with_tail(row, 0)
}

pub(super) fn encode_with_tail<R: Record>(row: &R, tail_len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + tail_len);
    bytes.push(VERSION);
    bincode::encode_into_std_write(row, &mut bytes, LAYOUT)
        .expect("writing a row to memory can't fail");
    bytes
}

pub(super) fn decode<R: Record>(bytes: &[u8]) -> Result<R, Error> {
    let (row, used) = decode_with_tail(bytes)?;
    if used == bytes.len() {
        Ok(row)
    } else {
        Err(damaged::<R>(format!(
            "{} bytes are left over",
            bytes.len() - used
        )))
    }
}

/// The row and where its tail begins.
pub(super) fn decode_with_tail<R: Record>(bytes: &[u8]) -> Result<(R, usize), Error> {
    let Some((&version, body)) = bytes.split_first() else {
        return Err(damaged::<R>("empty".to_owned()));
    };
    if !(1..=VERSION).contains(&version) {
        return Err(damaged::<R>(format!("layout version {version} is unknown")));
    }
    let version = LayoutVersion(version);
    let (row, used) = bincode::decode_from_slice_with_context(body, LAYOUT, version)
        .map_err(|error: DecodeError| damaged::<R>(error.to_string()))?;
    Ok((row, used + 1))
}

fn damaged<R: Record>(detail: String) -> Error {
    Error::Damaged {
        what: R::NAME,
        detail,
    }
}
