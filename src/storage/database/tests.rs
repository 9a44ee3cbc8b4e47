use super::super::keys::{ConfigKey, SegmentKey};
use super::super::layout::{SegmentHead, Text};
use super::*;
use crate::model::TownId;

mod crashes;

/// Why opening fails, once no child of another test holds the locks.
fn refusal(dir: &Path) -> Error {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let error = Database::open(dir, OPTIONS).unwrap_err();
        if !is_locked(&error) || std::time::Instant::now() > limit {
            return error;
        }
    }
}

const OPTIONS: OpenOptions = OpenOptions {
    cache_bytes: 8 << 20,
};

fn commit(tree: &Tree, batch: Batch) {
    let (done, outcome) = std::sync::mpsc::channel();
    tree.commit(batch, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    outcome.recv().unwrap().unwrap();
}

#[test]
fn a_row_of_any_size_comes_back_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let name = TreeName::Town(TownId::random());
    for len in [0, 1, 5119, 5120, 5121, 100_000, 1 << 20, 10] {
        let database = Database::open_in_test(dir.path());
        let tree = database.tree(name).unwrap();
        let row = Text {
            value: "x".repeat(len),
        };
        let mut batch = Batch::new();
        batch.put(&ConfigKey {}, &row);
        commit(&tree, batch);
        assert_eq!(tree.get(&ConfigKey {}).unwrap(), Some(row));
        database.close();
    }
    let database = Database::open_in_test(dir.path());
    let raw = database.0.db.open_tree(name.to_string()).unwrap();
    assert_eq!(raw.len(), 1, "chunks of former values are gone");
    assert!(
        std::fs::read_dir(dir.path().join("database/blobs")).map_or(0, Iterator::count) == 0,
        "no blob file appeared"
    );
}

#[test]
fn scan_from_begins_with_the_row_that_holds_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let tree = database.tree(TreeName::Town(TownId::random())).unwrap();
    for first_id in [1u64, 11, 21] {
        let mut batch = Batch::new();
        let head = SegmentHead {
            first_id,
            offsets: vec![0; 10],
            link: None,
            bytes_before: 0,
        };
        batch.append(&SegmentKey { first_id }, &head, b"frames");
        commit(&tree, batch);
    }
    let firsts = |from: u64| -> Vec<u64> {
        tree.scan_from(&SegmentKey { first_id: from })
            .unwrap()
            .map(|row| row.unwrap().key.first_id)
            .collect()
    };
    assert_eq!(firsts(1), [1, 11, 21]);
    assert_eq!(firsts(10), [1, 11, 21]);
    assert_eq!(firsts(11), [11, 21]);
    assert_eq!(firsts(15), [11, 21]);
    assert_eq!(firsts(99), [21]);
    let (head, frames) = tree.last(&SegmentKey::all()).unwrap().unwrap().into_parts();
    assert_eq!((head.first_id, frames.as_ref()), (21, b"frames".as_slice()));
}

#[test]
fn a_second_opening_is_refused_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Database::open_in_test(dir.path());
    let error = Database::open(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&std::process::id().to_string()));
}

#[test]
fn foreign_and_newer_databases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = sled::open(dir.path().join(DATABASE_DIR)).unwrap();
    foreign.insert(b"somebody", b"else").unwrap();
    foreign.flush().unwrap();
    drop(foreign);
    let error = refusal(dir.path());
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");

    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let mut batch = Batch::new();
    batch.put(
        &FormatKey {},
        &Format {
            program: PROGRAM.to_owned(),
            version: 99,
        },
    );
    commit(&database.tree(TreeName::Meta).unwrap(), batch);
    database.close();
    drop(database);
    let error = refusal(dir.path());
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn an_older_database_becomes_one_of_this_format() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let format = |version| Format {
        program: PROGRAM.to_owned(),
        version,
    };
    let mut batch = Batch::new();
    batch.put(&FormatKey {}, &format(1));
    commit(&database.tree(TreeName::Meta).unwrap(), batch);
    database.close();
    drop(database);
    let database = Database::open_in_test(dir.path());
    let found = database.tree(TreeName::Meta).unwrap().get(&FormatKey {});
    assert_eq!(found.unwrap(), Some(format(FORMAT_VERSION)));
    database.close();
}

#[tokio::test]
async fn settled_waits_for_what_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let tree = database.tree(TreeName::Meta).unwrap();
    tree.settled().await.unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    let mut batch = Batch::new();
    batch.put(
        &ConfigKey {},
        &Text {
            value: "seen".to_owned(),
        },
    );
    tree.commit(batch, Box::new(move |_| done.send(()).unwrap()))
        .unwrap();
    assert!(tree.get(&ConfigKey {}).unwrap().is_some());
    tree.settled().await.unwrap();
    outcome.recv().unwrap();
}

#[test]
fn a_split_row_is_never_read_half_old_and_half_new() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), OPTIONS).unwrap();
    let tree = database.tree(TreeName::Town(TownId::random())).unwrap();
    // Lengths of two, three and no chunks, so that chunks appear and vanish too.
    let row = |n: usize| Text {
        value: char::from(b'a' + u8::try_from(n % 26).unwrap())
            .to_string()
            .repeat(1 + n % 3 * 7_000),
    };
    let put = |n: usize| {
        let mut batch = Batch::new();
        batch.put(&ConfigKey {}, &row(n));
        tree.commit(batch, Box::new(|_| {})).unwrap();
    };
    put(1);
    let writing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|threads| {
        let reader = || {
            let mut reads = 0u32;
            while writing.load(std::sync::atomic::Ordering::SeqCst) {
                let Text { value } = tree.get(&ConfigKey {}).unwrap().unwrap();
                let first = value.as_bytes()[0];
                assert!(value.bytes().all(|byte| byte == first), "a mixed value");
                reads += 1;
            }
            reads
        };
        let readers = [threads.spawn(reader), threads.spawn(reader)];
        (0..2_000).for_each(put);
        writing.store(false, std::sync::atomic::Ordering::SeqCst);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
}

#[test]
fn who_holds_a_removed_tree_is_refused_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), OPTIONS).unwrap();
    let name = TreeName::Town(TownId::random());
    let tree = database.tree(name).unwrap();
    let batch = || {
        let mut batch = Batch::new();
        let value = "x".to_owned();
        batch.put(&ConfigKey {}, &Text { value });
        batch
    };
    commit(&tree, batch());
    database.drop_tree(name).unwrap();
    assert!(!database.has_tree(name));
    let refused = tree.commit(batch(), Box::new(|_| panic!("it is not written")));
    assert!(matches!(refused, Err(Error::Removed { .. })), "{refused:?}");
    assert!(database.is_writable(), "the others are not touched");
    assert!(database.drop_tree(name).is_ok(), "once more does no harm");
    let again = database.tree(name).unwrap();
    assert_eq!(again.get(&ConfigKey {}).unwrap(), None);
    commit(&again, batch());
}

#[tokio::test]
async fn a_panic_in_a_callback_poisons_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), OPTIONS).unwrap();
    let tree = database.tree(TreeName::Meta).unwrap();
    tree.commit(Batch::new(), Box::new(|_| panic!("on purpose")))
        .unwrap();
    database.poisoned().await;
    let refused = tree.commit(Batch::new(), Box::new(|_| {})).unwrap_err();
    assert!(refused.to_string().contains("panic"), "{refused}");
}

#[tokio::test]
async fn a_closed_database_refuses_and_is_not_called_broken() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), OPTIONS).unwrap();
    let tree = database.tree(TreeName::Meta).unwrap();
    database.close();
    let refused = tree.commit(Batch::new(), Box::new(|_| {})).unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    tree.settled().await.unwrap();
    tokio::select! {
        biased;
        () = database.poisoned() => panic!("nothing failed"),
        () = std::future::ready(()) => {}
    }
}
