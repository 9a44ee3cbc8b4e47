//! A database whose committer a test moves by hand, for simulations.
//!
//! The engine, the codec and the batches are the real ones. Only the committing thread is not
//! there: the test decides when a batch becomes durable, and what a crash takes back. Taking back
//! rests on the values that each batch replaced, noted while it was applied.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Inner, Order, Tree, chunks, codec, write};
use crate::storage::batch::{Batch, Write};
use crate::storage::committer::{Applied, Committer, Job};
use crate::storage::{Error, Record};

/// What a batch did to one key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) before: Option<Vec<u8>>,
    pub(crate) after: Option<Vec<u8>>,
}

/// Where a tree notes what its batches did that are not durable yet; the newest is last.
pub(in super::super) type Changes = Arc<Mutex<VecDeque<Arc<[Change]>>>>;

/// The hand that moves the committer. It serves one tree at a time.
pub(crate) struct ByHand {
    db: sled::Db,
    committer: Committer,
    jobs: Receiver<Job>,
    waiting: VecDeque<Job>,
    changes: Changes,
}

impl ByHand {
    /// A database in an empty folder that is not kept.
    pub(crate) fn new(path: &Path) -> Self {
        let db = sled::Config::new()
            .path(path)
            .temporary(true)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .open()
            .unwrap();
        let changes = Changes::default();
        let (committer, jobs) = Committer::by_hand(path, changes.clone());
        Self {
            db,
            committer,
            jobs,
            waiting: VecDeque::new(),
            changes,
        }
    }

    /// The tree of this name as a process finds it that has just opened the database.
    pub(crate) fn open(&self, name: &str) -> Tree {
        let tree = self.db.open_tree(name).unwrap();
        Tree::new(tree, Order::AppliedFirst, self.committer.clone())
    }

    pub(crate) fn remove(&self, name: &str) {
        self.db.drop_tree(name).unwrap();
    }

    /// How many batches are applied and not durable.
    pub(crate) fn pending(&mut self) -> usize {
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Turn(turn) => turn(),
                job => self.waiting.push_back(job),
            }
        }
        self.waiting.len()
    }

    /// What the batches did that are not durable, the first `skip` left out.
    pub(crate) fn changes(&self, skip: usize) -> Vec<Arc<[Change]>> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.iter().skip(skip).cloned().collect()
    }

    /// Makes the oldest `count` batches durable and tells who waits for them.
    pub(crate) fn make_durable(&mut self, count: usize) {
        for _ in 0..count.min(self.pending()) {
            let Some(Job::Applied(Applied {
                tree,
                number,
                on_durable,
            })) = self.waiting.pop_front()
            else {
                return;
            };
            self.changes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            tree.durable.send_replace(number);
            on_durable(Ok(()));
        }
    }

    /// The process dies: what is not durable is taken back, and nobody is told anything.
    pub(crate) fn crash(&mut self, tree: &Tree) {
        self.pending();
        self.waiting.clear();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in changes.drain(..).rev() {
            let mut rows = Vec::new();
            for change in batch.iter().rev() {
                let former = Write {
                    key: change.key.clone(),
                    value: change.before.clone(),
                    replaces: true,
                };
                chunks::stage(&tree.0.tree, former, &mut rows).unwrap();
            }
            write(&tree.0.tree, rows).unwrap();
        }
    }
}

/// The row behind bytes that a [`Change`] or a dump shows.
pub(crate) fn row<R: Record>(bytes: &[u8]) -> R {
    codec::decode_with_tail(bytes).unwrap().0
}

/// The same of a row with a tail.
pub(crate) fn tailed<R: Record>(bytes: &[u8]) -> (R, &[u8]) {
    let (row, tail_at) = codec::decode_with_tail(bytes).unwrap();
    (row, &bytes[tail_at..])
}

impl Inner {
    /// Notes what `batch` is about to do, if this is a database moved by hand.
    pub(super) fn note_changes(&self, batch: &Batch) -> Result<(), Error> {
        let Some(noted) = self.committer.changes() else {
            return Ok(());
        };
        let mut changes = Vec::with_capacity(batch.writes.len());
        for Write { key, value, .. } in &batch.writes {
            let head = self.tree.get(key)?;
            let before = head.map(|head| chunks::load(&self.tree, key, &head));
            changes.push(Change {
                key: key.clone(),
                before: before.transpose()?.map(|value| value.as_ref().to_vec()),
                after: value.clone(),
            });
        }
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push_back(changes.into());
        Ok(())
    }
}

impl Tree {
    /// Every row's key and bytes.
    pub(crate) fn dump(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let rows = self.0.tree.iter().map(Result::unwrap);
        // Behind this byte are the chunks of split values, which are read with their heads.
        rows.filter(|(key, _)| key.first() != Some(&0xFF))
            .map(|(key, head)| {
                let value = chunks::load(&self.0.tree, &key, &head).unwrap();
                (key.to_vec(), value.as_ref().to_vec())
            })
            .collect()
    }
}

impl Batch {
    /// The rows that it writes.
    pub(crate) fn puts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let writes = self.writes.iter();
        writes.filter_map(|write| Some((write.key.as_slice(), write.value.as_deref()?)))
    }
}

#[test]
fn a_crash_takes_back_what_is_not_durable_and_nothing_else() {
    use crate::storage::{Count, CounterKey, MailUndelivered, Text};

    let folder = tempfile::tempdir().unwrap();
    let mut hand = ByHand::new(folder.path());
    let tree = hand.open("town");
    let key = |seq| MailUndelivered {
        to_agent_id: crate::model::AgentId::from_bytes([7; 16]),
        seq,
    };
    let long = |letter: &str| Text {
        value: letter.repeat(3 * chunks::CHUNK_LEN_MAX),
    };
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut states = vec![tree.dump()];
    for step in 0..6_u64 {
        let mut batch = Batch::new();
        batch.put(&CounterKey {}, &Count { value: step });
        batch.put(&crate::storage::ConfigKey {}, &long(&step.to_string()));
        batch.put(&key(step), &Count { value: step });
        batch.delete(&key(step.wrapping_sub(2)));
        let told = told.clone();
        let on_durable = Box::new(move |_| told.lock().unwrap().push(step));
        tree.commit(batch, on_durable).unwrap();
        states.push(tree.dump());
    }
    assert_eq!((hand.pending(), told.lock().unwrap().len()), (6, 0));
    hand.make_durable(2);
    assert_eq!(*told.lock().unwrap(), [0, 1]);
    hand.crash(&tree);
    let tree = hand.open("town");
    assert_eq!(tree.dump(), states[2]);
    assert!(tree.is_settled());
    assert_eq!(hand.pending(), 0);
    assert_eq!(
        told.lock().unwrap().len(),
        2,
        "nobody hears of what is lost"
    );
    assert_eq!(
        states
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        7
    );
}
