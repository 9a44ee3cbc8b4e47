//! Storage: the only door to sled and bincode.
//!
//! Owner of every name, key and byte on disk. A [`Database`] holds named trees
//! ([`TreeName`]); a [`Tree`] is read directly and written by [`Batch`]es. One committer thread
//! makes batches durable for the whole database: it gathers what waits, flushes once and only then
//! releases every waiter (group commit). What event logs write is made durable in a journal first and
//! reaches sled after that.
//!
//! Invariants:
//! - A batch is atomic: after a crash all of it is there or nothing.
//! - `on_durable` runs only after the bytes were flushed and `fdatasync` returned. sled's own
//!   flush ends in `sync_file_range`, which promises neither metadata nor the disk's cache.
//! - No value is larger than [`CHUNK_LEN_MAX`]: larger ones are split, because sled moves large
//!   pages to separate files that it never syncs.
//! - On a disk that is nearly full writes are refused, reads go on, and so do writes once there is
//!   room.
//! - After a failed write nothing more is written: the database is poisoned and says so.
//!
//! Absent on purpose: transactions over several trees, and any knowledge of what a row means.

mod batch;
mod chunks;
mod codec;
mod committer;
mod database;
mod error;
mod keys;
mod layout;
mod once;
mod space;
mod trees;

pub use batch::Batch;
pub use chunks::CHUNK_LEN_MAX;
pub use codec::Record;
pub use committer::{OnDurable, Refused, Turn};
pub use database::{Database, OpenOptions};
pub use error::Error;
pub use keys::{
    AgentActive, AgentByIdentity, AgentByName, AgentByRig, AgentByRole, AgentKey, AnsweredAt,
    AnsweredCount, AnsweredKey, ApiTokenKey, AskKey, BeadByAssignee, BeadByConvoy, BeadByKind,
    BeadByParent, BeadByRig, BeadByStatus, BeadByTown, BeadDependent, BeadEventKey, BeadKey,
    BeadReady, BeadSlung, ConfigKey, ContainerKey, ConvoyKey, CountedKey, CounterKey, DiskKey,
    EscalationFold, FormatKey, IndexedKey, Key, LedgerKey, LinkKey, LogHeadKey, MailBySender,
    MailKey, MailUndelivered, MoleculeKey, NO_RIG, NudgeByExpiry, Prefix, RaisedKey, RemovalKey,
    ReviewBySource, ReviewByStatus, ReviewKey, ReviewOutput, RigByName, RigKey, RigPaused,
    SchedulerKey, SegmentKey, TownDirectory, TownKey, UsageKey,
};
pub use layout::{
    Answered, Count, DirectoryEntry, Format, LinkPosition, LogHead, Pointer, SegmentHead, Text,
};
pub use once::{KEPT_FOR, Kept, Once, Recalled};
#[cfg(test)]
pub(crate) use trees::{ROWS_READ, by_hand};
pub use trees::{Tailed, Tree, TreeName};
