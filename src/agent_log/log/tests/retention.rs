use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::agent_log::{Keep, Logs, TailLimits};

fn keep(events_max: u64) -> Keep {
    Keep {
        events_max,
        ..Keep::for_age(Timestamp::from_millis(1_000), Duration::from_secs(1))
    }
}

async fn expire_all(log: &Log, keep: Keep) -> u64 {
    let mut removed = 0;
    loop {
        let expired = log.expire(keep, |_, _| {}).await.unwrap();
        removed += expired.events;
        if !expired.more {
            return removed;
        }
    }
}

async fn filled(log: &Log, batches: usize) {
    for batch in 0..batches {
        let events = (0..100).map(|n| event(&format!("\"{batch}-{n:0250}\""), None));
        log.append(events.collect()).await.unwrap();
    }
}

#[tokio::test]
async fn each_bound_lets_go_from_the_front_and_the_floor_survives() {
    let dir = tempfile::tempdir().unwrap();
    let agent = AgentId::random();
    let floor = {
        let database = database(dir.path());
        let log = log(&database, agent).await;
        filled(&log, 100).await;
        assert_eq!(
            expire_all(&log, keep(u64::MAX)).await,
            0,
            "nothing is too old"
        );
        expire_all(&log, keep(3_000)).await;
        let position = log.position();
        let kept = position.last_id - position.first_id + 1;
        assert!((2_900..=3_000).contains(&kept), "{position:?}");
        let by_bytes = Keep {
            bytes_max: 100_000,
            ..keep(u64::MAX)
        };
        expire_all(&log, by_bytes).await;
        let bytes: usize = (log.read_from(log.position().first_id).await.unwrap().iter())
            .map(|slice| slice.bytes().len())
            .sum();
        assert!((90_000..=100_000).contains(&bytes), "{bytes}");
        let needed = log.position().first_id + 50;
        let needed_keep = Keep {
            needed_from: needed,
            ..keep(1)
        };
        expire_all(&log, needed_keep).await;
        assert!(log.position().first_id <= needed);
        database.close();
        log.position()
    };
    let database = database(dir.path());
    let log = log(&database, agent).await;
    assert_eq!(log.position(), floor);
    let events = read_all(&log, 1).await;
    let ids: Vec<u64> = events.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (floor.first_id..=floor.last_id).collect::<Vec<_>>());
    // Everything is too old: the last segment stays, and with it the last id.
    let age = Keep::for_age(Timestamp::from_millis(1_000_000), Duration::from_secs(1));
    expire_all(&log, age).await;
    let position = log.position();
    assert_eq!(position.last_id, floor.last_id);
    assert!(position.last_id - position.first_id < 64);
    assert_eq!(
        log.append(vec![event("1", None)]).await.unwrap().first_id,
        floor.last_id + 1
    );
}

#[tokio::test]
async fn a_log_that_passes_its_bound_asks_to_be_swept_once() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(database(dir.path()), 16 << 10);
    let agent = AgentId::random();
    let log = logs.open(agent).await.unwrap();
    log.append(vec![event("1", None)]).await.unwrap();
    assert!(
        logs.overdue().await.contains(&agent),
        "a log nobody looked at"
    );
    expire_all(&log, keep(1_000)).await;
    filled(&log, 10).await;
    let asked = tokio::time::timeout(Duration::ZERO, logs.overdue()).await;
    assert!(asked.is_err(), "within its bound");
    filled(&log, 1).await;
    assert!(logs.overdue().await.contains(&agent));
    filled(&log, 1).await;
    let again = tokio::time::timeout(Duration::ZERO, logs.overdue()).await;
    assert!(again.is_err(), "it was said already");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tails_together_keep_within_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let total = 200 << 10;
    let limits = TailLimits {
        per_log: 64 << 10,
        total,
    };
    let logs = Logs::within(database(dir.path()), limits);
    let agents: Vec<AgentId> = (0..50).map(|_| AgentId::random()).collect();
    for round in 0..4 {
        for agent in &agents {
            let log = logs.open(*agent).await.unwrap();
            filled(&log, 1).await;
            assert!(logs.tail_bytes() <= total, "round {round}");
        }
    }
    let newest = logs.open(agents[49]).await.unwrap();
    assert!(newest.tail_from(400).is_some(), "the newest are in memory");
    let oldest = logs.open(agents[0]).await.unwrap();
    assert!(oldest.tail_from(400).is_none(), "the oldest gave way");
    for agent in &agents {
        let log = logs.open(*agent).await.unwrap();
        assert_eq!(read_all(&log, 1).await.len(), 400);
    }
    drop((newest, oldest));
    // Nobody uses them, but for the committer, which may be about to let go of the last.
    let mut closed = 0;
    while closed < agents.len() {
        closed += logs.close_idle();
        tokio::task::yield_now().await;
    }
    assert_eq!(logs.tail_bytes(), 0);
    let again = logs.open(agents[7]).await.unwrap();
    assert_eq!(
        again.append(vec![event("1", None)]).await.unwrap().first_id,
        401
    );
}

#[tokio::test]
async fn an_event_of_the_largest_size_makes_no_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let log = log(&database, AgentId::random()).await;
    let large = format!("\"{}\"", "y".repeat((1 << 20) - 2));
    for _ in 0..8 {
        let appended = log
            .append(vec![event("1", None), event(&large, None)])
            .await;
        assert_eq!(appended.unwrap().count, 2);
    }
    let blobs = || std::fs::read_dir(dir.path().join("database/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs(), 0);
    let events: BTreeMap<u64, String> = read_all(&log, 1).await.into_iter().collect();
    assert_eq!(events.len(), 16);
    assert_eq!(events[&16], large);
    expire_all(&log, keep(1)).await;
    assert_eq!(blobs(), 0);
}

#[tokio::test]
async fn space_of_deleted_logs_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let logs = Logs::new(database.clone(), 16 << 10);
    let mut sizes = Vec::new();
    for _ in 0..30 {
        let agent = AgentId::random();
        let log = logs.open(agent).await.unwrap();
        filled(&log, 40).await;
        logs.delete(agent).await.unwrap();
        let late = logs.open(agent).await.unwrap_err();
        assert!(matches!(late, storage::Error::Removed { .. }), "{late:?}");
        assert!(logs.existing().is_empty());
        sizes.push(database.size_on_disk().unwrap());
    }
    // Thirty logs of some 1.2 MB passed through; without reuse the file would hold 36 MB.
    let (early, late) = (sizes[9], sizes[29]);
    assert!(late < early * 3 / 2 + (2 << 20), "{sizes:?}");
}
