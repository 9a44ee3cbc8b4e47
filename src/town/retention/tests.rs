use super::*;
use crate::agent_log::{NewEvent, Subject};
use crate::model::Timestamp;
use crate::storage::{Database, Pointer, TreeName};

const OLD: Timestamp = Timestamp::from_millis(1_000);
const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

fn fact(bead_id: BeadId) -> NewEvent {
    NewEvent {
        event_type: "bead.created".to_owned(),
        data: format!(r#"{{"bead_id":"{bead_id}","metadata":{{}}}}"#).into(),
        timestamp: OLD,
        link: None,
    }
}

async fn commit(tree: &Tree, batch: Batch) {
    let (done, durable) = tokio::sync::oneshot::channel();
    tree.commit(batch, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    durable.await.unwrap().unwrap();
}

fn history(tree: &Tree, bead_id: BeadId) -> Vec<u64> {
    let rows = tree.scan(&BeadEventKey::of_bead(bead_id));
    rows.map(|row| row.unwrap().0.seq).collect()
}

#[tokio::test]
async fn old_facts_go_but_for_those_of_open_beads() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open_in_test(dir.path());
    let tree = database.tree(TreeName::Town(TownId::random())).unwrap();
    let feed = Log::open(tree.clone(), Subject::Town, 64 << 10)
        .await
        .unwrap();
    let (closed, open) = (BeadId::random(), BeadId::random());
    for seq in 1..=600 {
        let bead_id = if seq < 300 || seq % 2 == 0 {
            closed
        } else {
            open
        };
        let mut batch = Batch::new();
        let staged = feed.stage(&mut batch, &[fact(bead_id)]);
        crate::town::ledger::stage(&mut batch, bead_id, None, seq);
        commit(&tree, batch).await;
        feed.publish(staged);
    }
    let by_status = |status| BeadByStatus { status, seq: 1 };
    let mut batch = Batch::new();
    batch.put(&by_status(BeadStatus::InProgress), &Pointer { id: open });
    batch.put(&by_status(BeadStatus::Closed), &Pointer { id: closed });
    commit(&tree, batch).await;

    assert_eq!(needed_facts(&tree).unwrap(), 301);
    let by_age = Keep::for_age(NOW, DAY);
    let keep = Keep {
        needed_from: needed_facts(&tree).unwrap(),
        ..by_age
    };
    expire(&feed, keep, forget_facts).await.unwrap();
    let floor = feed.position().first_id;
    assert_eq!(floor, 301, "each fact is a segment of its own here");
    assert_eq!(history(&tree, closed).first(), Some(&302));
    assert_eq!(history(&tree, open).first(), Some(&301));
    assert_eq!(
        history(&tree, open).len() + history(&tree, closed).len(),
        300
    );

    // Once it is closed too, only the last one is left.
    let mut batch = Batch::new();
    batch.delete(&by_status(BeadStatus::InProgress));
    commit(&tree, batch).await;
    let keep = Keep {
        needed_from: needed_facts(&tree).unwrap(),
        ..by_age
    };
    expire(&feed, keep, forget_facts).await.unwrap();
    assert_eq!(feed.position().first_id, 600);
    assert_eq!(history(&tree, closed), [600]);
    let whole = tree.scan(&LedgerKey::of_rig(NO_RIG));
    assert_eq!(whole.count(), 1, "the ledger's other indexes");
    assert!(history(&tree, open).is_empty());
}
