//! The trees of a database, and reading and writing one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::{AgentId, TownId};
use crate::telemetry;

use super::batch::{Batch, Write};
use super::chunks::Value;
use super::committer::{Ahead, Applied, Committer, Job, OnDurable, Refused, Turn};
use super::keys::{Key, Prefix};
use super::{Error, chunks, codec};

/// The trees. A retired one would stay listed and reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreeName {
    /// The format and the list of towns.
    Meta,
    /// One town's whole control plane.
    Town(TownId),
    /// One agent's event log.
    Agent(AgentId),
}

impl TreeName {
    /// When this tree's batches are applied.
    pub(super) const fn order(self) -> Order {
        match self {
            Self::Meta | Self::Town(_) => Order::AppliedFirst,
            // An event is not read before it is durable, so that it can be made durable the cheap way.
            Self::Agent(_) => Order::JournalFirst,
        }
    }

    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        if name == "meta" {
            return Some(Self::Meta);
        }
        let (kind, id) = name.split_once('/')?;
        match kind {
            "town" => id.parse().ok().map(Self::Town),
            "agent" => id.parse().ok().map(Self::Agent),
            _ => None,
        }
    }
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Town(id) => write!(f, "town/{id}"),
            Self::Agent(id) => write!(f, "agent/{id}"),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Rows that this thread has read, so that tests can tell what a query costs.
    pub(crate) static ROWS_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// When the batches of a tree are applied. It is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// At once, so that the next reader sees them; they are durable with the engine's next flush.
    AppliedFirst,
    /// When the journal has made them durable.
    JournalFirst,
}

/// One tree; cheap to clone.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    tree: sled::Tree,
    name: String,
    order: Order,
    committer: Committer,
    state: Arc<TreeState>,
    /// Held while a batch is applied, so that numbers, application and queueing have one order.
    write: Mutex<Life>,
}

/// Whether the tree is still one of the database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Kept,
    Removed,
}

/// How far a tree's batches have come.
#[derive(Debug, Default)]
pub(super) struct TreeState {
    begun: AtomicU64,
    pub(super) durable: watch::Sender<u64>,
}

impl TreeState {
    /// The next batch's number.
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl Tree {
    pub(super) fn new(tree: sled::Tree, order: Order, committer: Committer) -> Self {
        let state = Arc::default();
        let name = String::from_utf8_lossy(&tree.name()).into_owned();
        Self(Arc::new(Inner {
            tree,
            name,
            order,
            committer,
            state,
            write: Mutex::new(Life::Kept),
        }))
    }

    /// The row under `key`. It may be newer than what is durable; see [`Tree::settled`].
    ///
    /// # Errors
    /// If the engine fails or the row is damaged.
    pub fn get<K: Key>(&self, key: &K) -> Result<Option<K::Row>, Error> {
        let key = key.encode();
        let Some(head) = self.0.tree.get(&key)? else {
            return Ok(None);
        };
        let value = self.0.value(&key, &head)?;
        value.map(|value| codec::decode(value.as_ref())).transpose()
    }

    /// Whether there is a row under `key`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn contains<K: Key>(&self, key: &K) -> Result<bool, Error> {
        Ok(self.0.tree.contains_key(key.encode())?)
    }

    /// Rows in the order of their keys; [`DoubleEndedIterator::rev`] for the newest first.
    pub fn scan<K: Key>(
        &self,
        prefix: &Prefix<K>,
    ) -> impl DoubleEndedIterator<Item = Result<(K, K::Row), Error>> + use<K> {
        let inner = self.0.clone();
        let rows = self.0.tree.scan_prefix(&prefix.bytes);
        rows.filter_map(move |row| inner.row(row).transpose())
    }

    /// The first key of `all` behind all that `done` begins, or the first of `all`: for walking over
    /// the parts of an index without reading what is behind each.
    ///
    /// # Errors
    /// If the engine fails or the key is damaged.
    pub fn first_key<K: Key>(
        &self,
        all: &Prefix<K>,
        done: Option<&Prefix<K>>,
    ) -> Result<Option<K>, Error> {
        let from = match done {
            Some(prefix) => match prefix.end() {
                Some(end) => end,
                None => return Ok(None),
            },
            None => all.bytes.clone(),
        };
        let row = self.0.tree.range(from..).next().transpose()?;
        row.filter(|(key, _)| key.starts_with(&all.bytes))
            .map(|(key, _)| K::decode(&key))
            .transpose()
    }

    /// Rows with their tails (see [`Batch::append`]) from the last key at or below `from` on.
    ///
    /// # Errors
    /// If the engine fails or the row before `from` is damaged.
    pub fn scan_from<K: Key>(
        &self,
        from: &K,
    ) -> Result<impl Iterator<Item = Result<Tailed<K>, Error>> + use<K>, Error> {
        let start = from.encode();
        let tag = start[0];
        let begin = match self.0.tree.get_lt(&start)? {
            Some((key, _)) if !self.0.tree.contains_key(&start)? && key[0] == tag => key.to_vec(),
            _ => start,
        };
        let inner = self.0.clone();
        let rows = self.0.tree.range(begin..vec![tag + 1]);
        Ok(rows.filter_map(move |row| inner.tailed(row).transpose()))
    }

    /// The row with the greatest key, with its tail.
    ///
    /// # Errors
    /// If the engine fails or the row is damaged.
    pub fn last<K: Key>(&self, prefix: &Prefix<K>) -> Result<Option<Tailed<K>>, Error> {
        let mut rows = self.0.tree.scan_prefix(&prefix.bytes).rev();
        rows.find_map(|row| self.0.tailed(row).transpose())
            .transpose()
    }

    /// Writes `batch` and calls `on_durable` from the committer's thread when it is on disk, or when
    /// it can't be. Batches of one tree become durable in the order of these calls. Those of an event
    /// log can be read when they are durable, all others at once.
    ///
    /// # Errors
    /// If the batch could not be taken; then `on_durable` is dropped and nothing was written.
    pub fn commit(&self, batch: Batch, on_durable: OnDurable) -> Result<(), Error> {
        self.offer(batch, on_durable)
            .map_err(|refused| refused.error)
    }

    /// As [`Tree::commit`], but a refusal gives `on_durable` back, so that who waits can be told
    /// why.
    ///
    /// # Errors
    /// If the batch could not be taken; then nothing was written.
    pub fn offer(&self, batch: Batch, on_durable: OnDurable) -> Result<(), Refused> {
        let inner = &self.0;
        let life = inner.lock();
        let _watch = inner.committer.poison_on_panic("a write");
        let job = match (inner.admit(*life, &batch), inner.order) {
            (Err(error), _) => return Err(Refused { error, on_durable }),
            (Ok(()), Order::JournalFirst) => Job::Ahead(Ahead {
                tree: self.clone(),
                number: inner.state.begin(),
                batch,
                on_durable,
            }),
            (Ok(()), Order::AppliedFirst) => match inner.apply(batch) {
                Err(error) => return Err(Refused { error, on_durable }),
                Ok(number) => Job::Applied(Applied {
                    tree: inner.state.clone(),
                    number,
                    on_durable,
                }),
            },
        };
        inner.committer.queue(job)
    }

    /// Applies a batch that the journal has.
    ///
    /// # Errors
    /// If the tree was removed meanwhile, or the engine fails.
    pub(super) fn carry_out(&self, batch: Batch, number: u64) -> Result<(), Error> {
        let inner = &self.0;
        let life = inner.lock();
        let outcome = match *life {
            Life::Removed => Err(inner.removed()),
            Life::Kept => carry_out(&inner.tree, batch.writes),
        };
        if let Err(error @ Error::Engine(_)) = &outcome {
            inner.committer.poison(&telemetry::chain(error));
        }
        inner.state.durable.send_replace(number);
        outcome
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Calls `turn` from the committer's thread before its next flush, so that writers that can wait
    /// for that don't apply their batches beside each other. Where the committer has ended, `turn` is
    /// dropped and not called.
    pub fn take_turn(&self, turn: Turn) {
        self.0.committer.take_turn(turn);
    }

    /// Whether everything applied so far is on disk.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        *self.0.state.durable.borrow() >= self.0.state.begun.load(Ordering::SeqCst)
    }

    /// Resolves when everything that a read before this call may have seen is on disk, so that a
    /// reply never shows what a crash could take back. Resolves at once when nothing is under way.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if it never will be.
    pub async fn settled(&self) -> Result<(), Error> {
        let seen = self.0.state.begun.load(Ordering::SeqCst);
        if *self.0.state.durable.borrow() < seen {
            let mut durable = self.0.state.durable.subscribe();
            tokio::select! {
                _ = durable.wait_for(|number| *number >= seen) => {}
                () = self.0.committer.refusing() => {}
            }
        }
        if *self.0.state.durable.borrow() < seen {
            self.0.committer.check()
        } else {
            Ok(())
        }
    }
}

impl Tree {
    /// Whoever writes from now on is refused.
    pub(super) fn retire(&self) {
        *self.0.lock() = Life::Removed;
    }

    /// Whether nobody but the database holds it.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.is_settled()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch can be written now.
    fn admit(&self, life: Life, batch: &Batch) -> Result<(), Error> {
        self.committer.check()?;
        if life == Life::Removed {
            return Err(self.removed());
        }
        let (rows, bytes) = (batch.writes.len(), batch.byte_len());
        self.committer.space().take(rows, bytes, batch.frees)
    }

    /// Applies a batch with writers kept out; its number.
    fn apply(&self, batch: Batch) -> Result<u64, Error> {
        #[cfg(test)]
        self.note_changes(&batch)?;
        let rows = staged(&self.tree, batch.writes)?;
        let number = self.state.begin();
        if let Err(error) = write(&self.tree, rows) {
            self.committer.poison(&telemetry::chain(&error));
            return Err(error.into());
        }
        Ok(number)
    }

    fn removed(&self) -> Error {
        let tree = self.name.clone();
        Error::Removed { tree }
    }

    /// The value behind a head; `None` if it was deleted meanwhile. One that is split is read anew
    /// with writers kept out, because a batch between the head and the last chunk would mix two
    /// values.
    fn value(&self, key: &[u8], head: &sled::IVec) -> Result<Option<Value>, Error> {
        #[cfg(test)]
        ROWS_READ.set(ROWS_READ.get() + 1);
        if !chunks::is_split(head) {
            return chunks::load(&self.tree, key, head).map(Some);
        }
        let _life = self.lock();
        let head = self.tree.get(key)?;
        head.map(|head| chunks::load(&self.tree, key, &head))
            .transpose()
    }

    fn row<K: Key>(&self, row: SledRow) -> Result<Option<(K, K::Row)>, Error> {
        let (key, head) = row?;
        let Some(value) = self.value(&key, &head)? else {
            return Ok(None);
        };
        Ok(Some((K::decode(&key)?, codec::decode(value.as_ref())?)))
    }

    fn tailed<K: Key>(&self, row: SledRow) -> Result<Option<Tailed<K>>, Error> {
        let (key, head) = row?;
        let Some(value) = self.value(&key, &head)? else {
            return Ok(None);
        };
        let (row, tail_at) = codec::decode_with_tail(value.as_ref())?;
        Ok(Some(Tailed {
            key: K::decode(&key)?,
            row,
            value,
            tail_at,
        }))
    }
}

fn staged(tree: &sled::Tree, writes: Vec<Write>) -> Result<Vec<chunks::Row>, Error> {
    let mut rows = Vec::with_capacity(writes.len());
    for write in writes {
        chunks::stage(tree, write, &mut rows)?;
    }
    Ok(rows)
}

/// Writes rows all at once. sled writes a batch to its log as two pieces of its own, and waits for
/// the disk after each; a single row needs neither.
fn write(tree: &sled::Tree, rows: Vec<chunks::Row>) -> Result<(), sled::Error> {
    if rows.len() <= 1 {
        return write_apart(tree, rows);
    }
    let mut batch = sled::Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    tree.apply_batch(batch)
}

fn write_apart(tree: &sled::Tree, rows: Vec<chunks::Row>) -> Result<(), sled::Error> {
    for (key, value) in rows {
        match value {
            Some(value) => tree.insert(key, value)?,
            None => tree.remove(key)?,
        };
    }
    Ok(())
}

/// Applies what the journal has. A crash may keep the first rows without the last: then the journal
/// has all of them.
pub(super) fn carry_out(tree: &sled::Tree, writes: Vec<Write>) -> Result<(), Error> {
    let rows = staged(tree, writes)?;
    Ok(write_apart(tree, rows)?)
}

type SledRow = Result<(sled::IVec, sled::IVec), sled::Error>;

/// A row and the bytes behind it.
#[derive(Debug)]
pub struct Tailed<K: Key> {
    /// The key.
    pub key: K,
    /// The row.
    pub row: K::Row,
    value: Value,
    tail_at: usize,
}

impl<K: Key> Tailed<K> {
    /// The row and its tail, without copying the tail.
    #[must_use]
    pub fn into_parts(self) -> (K::Row, bytes::Bytes) {
        (
            self.row,
            bytes::Bytes::from_owner(self.value).slice(self.tail_at..),
        )
    }
}

#[cfg(test)]
pub(crate) mod by_hand;
