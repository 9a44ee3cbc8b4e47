//! The trees of a database, and reading and writing one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::{AgentId, TownId};

use super::batch::Batch;
use super::committer::{Committer, OnDurable};
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

/// One tree; cheap to clone.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    tree: sled::Tree,
    committer: Committer,
    state: Arc<TreeState>,
    /// Held while a batch is applied, so that numbers, application and queueing have one order.
    write: Mutex<()>,
}

/// How far a tree's batches have come.
#[derive(Debug)]
pub(super) struct TreeState {
    begun: AtomicU64,
    pub(super) durable: watch::Sender<u64>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("name", &self.0.tree.name())
            .finish_non_exhaustive()
    }
}

impl Tree {
    pub(super) fn new(tree: sled::Tree, committer: Committer) -> Self {
        let state = Arc::new(TreeState {
            begun: AtomicU64::new(0),
            durable: watch::Sender::new(0),
        });
        Self(Arc::new(Inner {
            tree,
            committer,
            state,
            write: Mutex::new(()),
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
        codec::decode(&chunks::load(&self.0.tree, &key, &head)?).map(Some)
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
        let tree = self.0.tree.clone();
        self.0.tree.scan_prefix(&prefix.bytes).map(move |row| {
            let (key, head) = row?;
            let value = chunks::load(&tree, &key, &head)?;
            Ok((K::decode(&key)?, codec::decode(&value)?))
        })
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
        let tree = self.0.tree.clone();
        Ok(self.0.tree.range(begin..vec![tag + 1]).map(move |row| {
            let (key, head) = row?;
            Tailed::load(&tree, &key, &head)
        }))
    }

    /// The row with the greatest key, with its tail.
    ///
    /// # Errors
    /// If the engine fails or the row is damaged.
    pub fn last<K: Key>(&self, prefix: &Prefix<K>) -> Result<Option<Tailed<K>>, Error> {
        match self.0.tree.scan_prefix(&prefix.bytes).next_back() {
            Some(row) => {
                let (key, head) = row?;
                Tailed::load(&self.0.tree, &key, &head).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Applies `batch` at once (readers may see it) and calls `on_durable` from the committer's
    /// thread when it is on disk, or when it can't be. Batches of one tree become durable in the
    /// order of these calls.
    ///
    /// # Errors
    /// If the batch could not be applied; then `on_durable` is dropped and nothing was written.
    pub fn commit(&self, batch: Batch, on_durable: OnDurable) -> Result<(), Error> {
        let _write = self.0.write.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.committer.check()?;
        let mut staged = sled::Batch::default();
        for write in batch.writes {
            chunks::stage(&self.0.tree, write, &mut staged)?;
        }
        let number = self.0.state.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if let Err(error) = self.0.tree.apply_batch(staged) {
            self.0.committer.poison(&error.to_string());
            return Err(error.into());
        }
        self.0
            .committer
            .queue(self.0.state.clone(), number, on_durable)
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
                () = self.0.committer.poisoned() => {}
            }
        }
        if *self.0.state.durable.borrow() < seen {
            self.0.committer.check()
        } else {
            Ok(())
        }
    }
}

/// A row and the bytes behind it.
#[derive(Debug)]
pub struct Tailed<K: Key> {
    /// The key.
    pub key: K,
    /// The row.
    pub row: K::Row,
    value: Vec<u8>,
    tail_at: usize,
}

impl<K: Key> Tailed<K> {
    fn load(tree: &sled::Tree, key: &[u8], head: &sled::IVec) -> Result<Self, Error> {
        let value = chunks::load(tree, key, head)?;
        let (row, tail_at) = codec::decode_with_tail(&value)?;
        Ok(Self {
            key: K::decode(key)?,
            row,
            value,
            tail_at,
        })
    }

    /// The row and its tail, without copying the tail.
    #[must_use]
    pub fn into_parts(self) -> (K::Row, bytes::Bytes) {
        (
            self.row,
            bytes::Bytes::from(self.value).slice(self.tail_at..),
        )
    }
}
