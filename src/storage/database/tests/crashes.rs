//! What a killed process leaves behind: the files as they are, copied while the database is open.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::super::super::keys::{Prefix, SegmentKey};
use super::super::super::layout::SegmentHead;
use super::*;
use crate::model::AgentId;

/// Opens what a process leaves that is killed now.
fn killed_now(dir: &Path) -> (tempfile::TempDir, Database) {
    let copy = tempfile::tempdir().unwrap();
    let database = copy.path().join(DATABASE_DIR);
    std::fs::create_dir(&database).unwrap();
    for entry in std::fs::read_dir(dir.join(DATABASE_DIR)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), database.join(entry.file_name())).unwrap();
        }
    }
    let opened = Database::open_in_test(copy.path());
    (copy, opened)
}

fn segment(first_id: u64, mark: u64) -> (SegmentKey, SegmentHead) {
    let head = SegmentHead {
        first_id,
        offsets: vec![0],
        link: None,
        bytes_before: mark,
    };
    (SegmentKey { first_id }, head)
}

type Rows = BTreeMap<u64, (u64, usize)>;

/// Each segment's mark and the length of its frames.
fn rows(tree: &Tree) -> Rows {
    let all: Prefix<SegmentKey> = SegmentKey::all();
    let Some(first) = tree.first_key(&all, None).unwrap() else {
        return Rows::new();
    };
    let rows = tree.scan_from(&first).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        let first_id = row.key.first_id;
        let (head, frames) = row.into_parts();
        (first_id, (head.bytes_before, frames.len()))
    })
    .collect()
}

/// What is done to two logs and a town.
#[derive(Clone, Debug)]
enum Act {
    /// Segments with frames of such lengths, in one batch.
    Append(usize, Vec<usize>),
    /// The oldest go, and the next is written anew.
    Expire(usize, usize),
    Remove(usize),
    /// A commit of the engine's own.
    Town,
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    let length = prop_oneof![4 => 0..400usize, 1 => 5_000..16_000usize];
    prop_oneof![
        6 => (0..2usize, prop::collection::vec(length, 1..5))
            .prop_map(|(log, lengths)| Act::Append(log, lengths)),
        2 => (0..2usize, 0..4usize).prop_map(|(log, count)| Act::Expire(log, count)),
        1 => (0..2usize).prop_map(Act::Remove),
        1 => Just(Act::Town),
        2 => Just(Act::Kill),
    ]
}

#[derive(Default)]
struct Model {
    logs: [Option<(AgentId, Rows)>; 2],
    next: u64,
}

impl Model {
    fn log(&mut self, log: usize) -> &mut (AgentId, Rows) {
        self.logs[log].get_or_insert_with(|| (AgentId::random(), Rows::new()))
    }

    fn carry_out(&mut self, database: &Database, act: &Act) {
        self.next += 1;
        let mark = self.next;
        let mut batch = Batch::new();
        let name = match act {
            Act::Append(log, lengths) => {
                let (agent_id, rows) = self.log(*log);
                for (place, length) in lengths.iter().enumerate() {
                    let first_id = mark * 10 + place as u64;
                    let (key, head) = segment(first_id, mark);
                    batch.append(&key, &head, &vec![b'x'; *length]);
                    rows.insert(first_id, (mark, *length));
                }
                TreeName::Agent(*agent_id)
            }
            Act::Expire(log, count) => {
                let (agent_id, rows) = self.log(*log);
                for _ in 0..*count {
                    if let Some((first_id, _)) = rows.pop_first() {
                        batch.delete(&SegmentKey { first_id });
                    }
                }
                if let Some((first_id, row)) = rows.iter_mut().next() {
                    let (key, head) = segment(*first_id, mark);
                    batch.put(&key, &head);
                    *row = (mark, 0);
                }
                TreeName::Agent(*agent_id)
            }
            Act::Remove(log) => {
                if let Some((agent_id, _)) = self.logs[*log].take() {
                    database.drop_tree(TreeName::Agent(agent_id)).unwrap();
                }
                return;
            }
            Act::Town => {
                let value = mark.to_string();
                batch.put(&ConfigKey {}, &Text { value });
                TreeName::Meta
            }
            Act::Kill => return,
        };
        commit(&database.tree(name).unwrap(), batch);
    }

    fn check(&self, database: &Database) {
        for (agent_id, rows_expected) in self.logs.iter().flatten() {
            let tree = database.tree(TreeName::Agent(*agent_id)).unwrap();
            assert_eq!(&rows(&tree), rows_expected);
        }
        let known = |name: &TreeName| {
            (self.logs.iter().flatten()).any(|(agent_id, _)| *name == TreeName::Agent(*agent_id))
        };
        let logs = database.trees().into_iter();
        let logs = logs.filter(|name| matches!(name, TreeName::Agent(_)));
        let lost: Vec<TreeName> = logs.filter(|name| !known(name)).collect();
        assert!(lost.is_empty(), "removed and there again: {lost:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_said_to_be_durable_survives_a_kill(acts in prop::collection::vec(act(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut database = Database::open_in_test(dir.path());
        let mut model = Model::default();
        for act in &acts {
            model.carry_out(&database, act);
            if matches!(act, Act::Kill) {
                let (left, opened) = killed_now(dir.path());
                database.close();
                (dir, database) = (left, opened);
            }
            model.check(&database);
        }
        database.close();
        drop(database);
        model.check(&Database::open_in_test(dir.path()));
    }
}

#[test]
fn a_journal_that_is_full_begins_anew_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let tree = database.tree(TreeName::Agent(AgentId::random())).unwrap();
    let (done, outcomes) = mpsc::channel();
    // Several records of one group, and more than one generation.
    let count = 24;
    for first_id in 1..=count {
        let (key, head) = segment(first_id, first_id);
        let mut batch = Batch::new();
        batch.append(&key, &head, &vec![b'x'; 3 << 20]);
        let done = done.clone();
        tree.commit(batch, Box::new(move |result| done.send(result).unwrap()))
            .unwrap();
    }
    (0..count).for_each(|_| outcomes.recv().unwrap().unwrap());
    let journal = std::fs::metadata(dir.path().join("database/journal")).unwrap();
    assert!(journal.len() < 40 << 20, "{}", journal.len());
    let (_left, again) = killed_now(dir.path());
    let name = again
        .trees()
        .into_iter()
        .find(|name| *name != TreeName::Meta);
    let found = rows(&again.tree(name.unwrap()).unwrap());
    assert_eq!(found.len() as u64, count);
    assert!(found.values().all(|(_, length)| *length == 3 << 20));
}

#[test]
fn an_orderly_end_leaves_nothing_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let tree = database.tree(TreeName::Agent(AgentId::random())).unwrap();
    let (key, head) = segment(1, 1);
    let mut batch = Batch::new();
    batch.append(&key, &head, b"frames");
    commit(&tree, batch);
    database.close();
    drop((tree, database));
    // So that a copy without it, or an export by sled's own means, is whole.
    std::fs::remove_file(dir.path().join("database/journal")).unwrap();
    let again = Database::open_in_test(dir.path());
    let name = again
        .trees()
        .into_iter()
        .find(|name| *name != TreeName::Meta);
    assert_eq!(rows(&again.tree(name.unwrap()).unwrap()).len(), 1);
}

#[test]
fn a_batch_for_a_log_that_is_removed_meanwhile_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let name = TreeName::Agent(AgentId::random());
    let tree = database.tree(name).unwrap();
    let (done, outcome) = mpsc::channel();
    let late = tree.clone();
    // From the committer's thread, so that the batch waits behind what removes its tree.
    tree.take_turn(Box::new(move || {
        let (key, head) = segment(1, 1);
        let mut batch = Batch::new();
        batch.append(&key, &head, b"frames");
        late.commit(batch, Box::new(move |result| done.send(result).unwrap()))
            .unwrap();
        late.retire();
    }));
    let refused = outcome.recv().unwrap();
    assert!(matches!(refused, Err(Error::Removed { .. })), "{refused:?}");
    database.drop_tree(name).unwrap();
    let (_left, again) = killed_now(dir.path());
    assert!(!again.has_tree(name), "the journal does not bring it back");
    assert!(database.is_writable());
}
