//! The journal: where batches of event logs are made durable before they reach the engine.
//!
//! A flush of sled hands the buffer to a pool of threads, wakes all of them, and waits for two
//! writes of the disk; that was most of what an event cost. A record in a file that has its place on
//! the disk already costs one write and one sync. The batches in it are then applied to sled, which
//! writes them whenever it likes. What a crash keeps from it, it finds here at the next start.
//!
//! Records of one *generation* follow each other from the beginning of the file. When it is full, and
//! at each start, everything in it is made durable in sled, and the next generation begins at the
//! front with a record that carries nothing. What a former one left behind that is told by its number,
//! which is drawn by lot. A record is
//!
//! ```text
//! checksum u32 (CRC-32 of all that follows) | length of the body u32 | generation u64 | body
//! ```
//!
//! and a body a sequence of batches, each of them
//!
//! ```text
//! name length u8 | tree's name | count u32 | count times:
//!     flags u8 (1: has a value, 2: replaces) | key length u32 | key | value length u32 | value
//! ```
//!
//! with all numbers little endian. To carry out the records of a generation again does no harm:
//! batches say what is under a key, not how it changes, and trees that are written here are written
//! in no other way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::storage::batch::Write;

const FILE: &str = "journal";

/// Bytes after which a generation ends. Beginning anew costs a flush of sled; reading as much back
/// takes a part of a second.
const GENERATION_BYTES_MAX: u64 = 32 << 20;

/// So much of the file is taken from the disk at once. Writing where the file has bytes already
/// changes nothing but these, and that makes a sync cheap.
const FILL_BYTES: usize = 1 << 20;

/// The buffer that records are put together in is kept up to this size.
const BUFFER_KEPT: usize = 1 << 20;

const HEADER_LEN: usize = 16;

const HAS_VALUE: u8 = 1;
const REPLACES: u8 = 2;

/// One batch that was read back.
pub(super) struct Found {
    pub(super) tree: String,
    pub(super) writes: Vec<Write>,
}

/// The open journal.
pub(super) struct Journal {
    file: File,
    generation: u64,
    /// Where the next record begins.
    end: u64,
    /// Up to here the file has bytes.
    filled: u64,
    /// The record that is being put together, with room for its header.
    record: Vec<u8>,
}

impl Journal {
    /// Opens the journal of a database's folder, or makes it. It must be [read](Self::read) to its end
    /// and, unless it is new, [begun anew](Self::begin_anew) before it is written.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(folder.join(FILE))?;
        Ok(Self {
            filled: file.metadata()?.len(),
            file,
            generation: lot(),
            end: 0,
            record: vec![0; HEADER_LEN],
        })
    }

    /// The batches of the next record. One that was not written to its end ends the journal.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<Found>>> {
        let Some(body) = self.next_body()? else {
            return Ok(None);
        };
        let mut rest = &body[..];
        let mut batches = Vec::new();
        while !rest.is_empty() {
            let batch = take_batch(&mut rest).ok_or_else(|| {
                let at = self.end;
                io::Error::other(format!("the journal's record before byte {at} is damaged"))
            })?;
            batches.push(batch);
        }
        Ok(Some(batches))
    }

    /// Bytes that the journal of a database's folder takes.
    pub(in super::super) fn size(folder: &Path) -> u64 {
        std::fs::metadata(folder.join(FILE)).map_or(0, |found| found.len())
    }

    /// The body of the record at the end, which then moves behind it.
    fn next_body(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.filled.saturating_sub(self.end) < HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER_LEN];
        self.file.read_exact_at(&mut header, self.end)?;
        let (checksum, rest) = header.split_at(4);
        let (length, generation) = rest.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let generation = u64::from_le_bytes(generation.try_into().expect("eight bytes"));
        let begin = self.end + HEADER_LEN as u64;
        let length = u64::from(number(length));
        let is_first = self.end == 0;
        if length > self.filled - begin || !(is_first || generation == self.generation) {
            return Ok(None);
        }
        let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut body, begin)?;
        if number(checksum) != checksum_of(&header[4..], &body) {
            return Ok(None);
        }
        self.generation = generation;
        self.end = begin + length;
        Ok(Some(body))
    }

    /// Whether nothing was ever written to the file.
    pub(super) const fn is_new(&self) -> bool {
        self.filled == 0
    }

    /// Whether nothing in it is to be carried out again.
    pub(super) const fn is_empty(&self) -> bool {
        self.end <= HEADER_LEN as u64
    }

    /// Whether it should be begun anew before the next record.
    pub(super) fn is_full(&self) -> bool {
        self.end >= GENERATION_BYTES_MAX
    }

    /// Puts a batch into the next record.
    pub(super) fn push(&mut self, tree: &str, writes: &[Write]) {
        let record = &mut self.record;
        record.push(u8::try_from(tree.len()).expect("a tree's name is short"));
        record.extend_from_slice(tree.as_bytes());
        push_number(record, writes.len());
        for write in writes {
            let has_value = if write.value.is_some() { HAS_VALUE } else { 0 };
            let replaces = if write.replaces { REPLACES } else { 0 };
            record.push(has_value | replaces);
            push_bytes(record, &write.key);
            push_bytes(record, write.value.as_deref().unwrap_or_default());
        }
    }

    /// Bytes of the record that is being put together.
    pub(super) const fn record_len(&self) -> usize {
        self.record.len()
    }

    /// Writes the record and makes it durable.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let (header, body) = self.record.split_at_mut(HEADER_LEN);
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..].copy_from_slice(&self.generation.to_le_bytes());
        let checksum = checksum_of(&header[4..], body);
        header[..4].copy_from_slice(&checksum.to_le_bytes());
        let end = self.end + self.record.len() as u64;
        while self.filled < end {
            self.file.write_all_at(&[0; FILL_BYTES], self.filled)?;
            self.filled += FILL_BYTES as u64;
        }
        self.file.write_all_at(&self.record, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        self.record.truncate(HEADER_LEN);
        self.record.shrink_to(BUFFER_KEPT);
        Ok(())
    }

    /// Forgets everything in it, durably: the engine has it.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        self.generation = lot();
        self.end = 0;
        // One record may be larger than a generation.
        if self.filled > GENERATION_BYTES_MAX * 2 {
            self.file.set_len(GENERATION_BYTES_MAX)?;
            self.filled = GENERATION_BYTES_MAX;
        }
        self.write()
    }
}

/// A number that no generation had before.
fn lot() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

fn checksum_of(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

fn push_number(record: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("a batch is shorter than 4 GiB");
    record.extend_from_slice(&number.to_le_bytes());
}

fn push_bytes(record: &mut Vec<u8>, bytes: &[u8]) {
    push_number(record, bytes.len());
    record.extend_from_slice(bytes);
}

/// Takes the first batch off a body; `None` if it is none.
fn take_batch(rest: &mut &[u8]) -> Option<Found> {
    let name_len = rest.split_off_first()?;
    let name = rest.split_off(..usize::from(*name_len))?;
    let tree = std::str::from_utf8(name).ok()?.to_owned();
    let count = take_number(rest)?;
    let writes = (0..count)
        .map(|_| take_write(rest))
        .collect::<Option<_>>()?;
    Some(Found { tree, writes })
}

fn take_write(rest: &mut &[u8]) -> Option<Write> {
    let flags = *rest.split_off_first()?;
    let key = take_bytes(rest)?;
    let value = take_bytes(rest)?;
    Some(Write {
        key,
        value: (flags & HAS_VALUE != 0).then_some(value),
        replaces: flags & REPLACES != 0,
    })
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_number(rest)?;
    rest.split_off(..length).map(<[u8]>::to_vec)
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_of(key: &str, value: Option<&str>) -> Write {
        Write {
            key: key.into(),
            value: value.map(Into::into),
            replaces: value.is_none(),
        }
    }

    /// What is in the journal of a folder, and the journal.
    fn open(folder: &Path) -> (Vec<String>, Journal) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut journal = Journal::open(folder).unwrap();
        let mut found = Vec::new();
        while let Some(batches) = journal.read().unwrap() {
            for Found { tree, writes } in batches {
                for write in writes {
                    let value = write.value.as_deref().map_or("none".to_owned(), text);
                    let how = if write.replaces { "!" } else { "" };
                    found.push(format!("{tree}/{}={value}{how}", text(&write.key)));
                }
            }
        }
        (found, journal)
    }

    fn write(journal: &mut Journal, tree: &str, key: &str) {
        journal.push(tree, &[write_of(key, Some("v")), write_of(key, None)]);
        journal.write().unwrap();
    }

    #[test]
    fn records_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (found, mut journal) = open(dir.path());
        assert!(found.is_empty() && journal.is_empty() && journal.is_new());
        journal.push("a", &[write_of("1", Some("x"))]);
        journal.push("b", &[]);
        journal.push("b", &[write_of("2", None), write_of("", Some(""))]);
        journal.write().unwrap();
        write(&mut journal, "c", "3");
        let expected = ["a/1=x", "b/2=none!", "b/=", "c/3=v", "c/3=none!"];
        let (found, journal) = open(dir.path());
        assert_eq!(found, expected);
        assert!(!(journal.is_empty() || journal.is_new() || journal.is_full()));
    }

    #[test]
    fn what_was_begun_anew_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut journal) = open(dir.path());
        for key in ["1", "2", "3"] {
            write(&mut journal, "a", key);
        }
        journal.begin_anew().unwrap();
        let (found, mut journal) = open(dir.path());
        assert!(found.is_empty() && journal.is_empty(), "{found:?}");
        // The same lengths as before, so that the former records are at the same places.
        journal.begin_anew().unwrap();
        write(&mut journal, "a", "4");
        let (found, _) = open(dir.path());
        assert_eq!(found, ["a/4=v", "a/4=none!"]);
    }

    #[test]
    fn a_torn_record_ends_it_whatever_is_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut journal) = open(dir.path());
        let mut ends = vec![0];
        for key in ["1", "2", "3"] {
            write(&mut journal, "a", key);
            ends.push(journal.end);
        }
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..ends[3] {
            let before = ends.iter().filter(|end| **end <= at).count() - 1;
            let mut torn = whole.clone();
            torn[usize::try_from(at).unwrap()] ^= 0x20;
            std::fs::write(dir.path().join(FILE), &torn).unwrap();
            assert_eq!(open(dir.path()).0.len(), before * 2, "flipped at {at}");
            torn = whole[..usize::try_from(at).unwrap()].to_vec();
            std::fs::write(dir.path().join(FILE), &torn).unwrap();
            assert_eq!(open(dir.path()).0.len(), before * 2, "cut at {at}");
        }
    }

    #[test]
    fn a_full_one_takes_a_record_of_any_size_and_shrinks_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut journal) = open(dir.path());
        let large = "x".repeat(70 << 20);
        journal.push("a", &[write_of("1", Some(&large))]);
        journal.write().unwrap();
        assert!(journal.is_full());
        assert_eq!(open(dir.path()).0.len(), 1);
        journal.begin_anew().unwrap();
        assert_eq!(journal.filled, GENERATION_BYTES_MAX);
        assert!(journal.record.capacity() <= BUFFER_KEPT);
        write(&mut journal, "a", "2");
        assert_eq!(open(dir.path()).0.len(), 2);
    }
}
