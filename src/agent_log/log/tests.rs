use std::sync::atomic::{AtomicU64, Ordering};

use super::super::frame::EventView;
use super::super::segment::Slice;
use super::*;
use crate::model::{AgentId, Timestamp};
use crate::storage::{Database, TreeName};

fn database(dir: &std::path::Path) -> Database {
    Database::open_in_test(dir)
}

async fn log(database: &Database, agent: AgentId) -> Log {
    let tree = database.tree(TreeName::Agent(agent)).unwrap();
    Log::open(tree, Subject::Agent(agent), 16 << 10)
        .await
        .unwrap()
}

fn event(data: &str, link: Option<LinkPosition>) -> NewEvent {
    let timestamp = Timestamp::from_millis(1_000);
    NewEvent {
        event_type: "x".to_owned(),
        data: data.into(),
        timestamp,
        link,
    }
}

async fn read_all(log: &Log, from: u64) -> Vec<(u64, String)> {
    let mut next = from;
    let mut events = Vec::new();
    loop {
        let slices = log.read_from(next).await.unwrap();
        if slices.is_empty() {
            return events;
        }
        for slice in slices {
            for frame in slice.frames() {
                let event = EventView::of_frame(frame).unwrap();
                events.push((event.id, event.data.get().to_owned()));
            }
            next = slice.last_id() + 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_are_contiguous_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let agent = AgentId::random();
    let epoch = {
        let database = database(dir.path());
        let log = log(&database, agent).await;
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let log = log.clone();
            tasks.spawn(async move {
                for n in 0..50 {
                    let pad = "p".repeat(n * 13);
                    let data = format!(r#""{writer}-{n}-{pad}""#);
                    let appended = log.append(vec![event(&data, None)]).await.unwrap();
                    assert_eq!(appended.count, 1);
                    assert!(
                        log.position().last_id >= appended.last_id,
                        "published when told"
                    );
                }
            });
        }
        tasks.join_all().await;
        let events = read_all(&log, 1).await;
        assert_eq!(
            events.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            (1..=400).collect::<Vec<_>>()
        );
        database.close();
        log.position().epoch
    };
    let database = database(dir.path());
    let log = log(&database, agent).await;
    assert_eq!(
        log.position(),
        Position {
            epoch,
            first_id: 1,
            last_id: 400
        }
    );
    assert_eq!(read_all(&log, 399).await.len(), 2);
    assert_eq!(
        log.append(vec![event("1", None)]).await.unwrap().first_id,
        401
    );
}

#[tokio::test]
async fn a_message_of_the_link_is_appended_once() {
    let dir = tempfile::tempdir().unwrap();
    let agent = AgentId::random();
    let epoch = Epoch::random();
    let at = |seq| Some(LinkPosition { epoch, seq });
    {
        let database = database(dir.path());
        let log = log(&database, agent).await;
        log.append(vec![event("1", at(3)), event("2", at(5))])
            .await
            .unwrap();
        let again = vec![event("1", at(3)), event("2", at(5)), event("3", at(6))];
        assert_eq!(log.append(again).await.unwrap().count, 1);
        log.append(vec![event("\"http\"", None)]).await.unwrap();
        database.close();
    }
    let database = database(dir.path());
    let log = log(&database, agent).await;
    assert_eq!(log.append(vec![event("3", at(6))]).await.unwrap().count, 0);
    let other = Some(LinkPosition {
        epoch: Epoch::random(),
        seq: 1,
    });
    assert_eq!(log.append(vec![event("4", other)]).await.unwrap().count, 1);
    let datas: Vec<String> = read_all(&log, 1)
        .await
        .into_iter()
        .map(|(_, data)| data)
        .collect();
    assert_eq!(datas, ["1", "2", "3", "\"http\"", "4"]);
}

struct Counter(AtomicU64);

impl Watcher for Counter {
    fn wake(&self, token: u64) {
        self.0.fetch_add(token, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn watchers_are_told_until_they_leave_or_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let log = log(&database, AgentId::random()).await;
    let counter = Arc::new(Counter(AtomicU64::new(0)));
    let watch = log.watch(counter.clone(), 1);
    log.append(vec![event("1", None)]).await.unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    log.unwatch(watch);
    log.append(vec![event("1", None)]).await.unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    log.watch(counter.clone(), 10);
    log.end();
    assert_eq!(counter.0.load(Ordering::SeqCst), 11);
    assert!(matches!(
        log.append(vec![event("1", None)]).await,
        Err(AppendError::Ended)
    ));
}

#[tokio::test]
async fn large_events_and_long_backfills_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let log = log(&database, AgentId::random()).await;
    let large = format!("\"{}\"", "y".repeat(1 << 20));
    log.append(vec![event(&large, None)]).await.unwrap();
    for _ in 0..20 {
        log.append(
            (0..100)
                .map(|n| event(&format!("\"{n:0300}\""), None))
                .collect(),
        )
        .await
        .unwrap();
    }
    let events = read_all(&log, 1).await;
    assert_eq!(events.len(), 2001);
    assert_eq!(events[0].1, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_removed_while_events_arrive_refuses_them_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let logs = crate::agent_log::Logs::new(database.clone(), 16 << 10);
    for _ in 0..20 {
        let agent = AgentId::random();
        let log = logs.open(agent).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        let (appended, mut first) = tokio::sync::mpsc::channel(1);
        for _ in 0..4 {
            let (log, appended) = (log.clone(), appended.clone());
            writers.spawn(async move {
                loop {
                    match log.append(vec![event("1", None)]).await {
                        Ok(_) => drop(appended.try_send(())),
                        Err(error) => return error,
                    }
                }
            });
        }
        first.recv().await.unwrap();
        logs.delete(agent).await.unwrap();
        for error in writers.join_all().await {
            assert!(matches!(error, AppendError::Ended), "{error:?}");
        }
        assert!(read_all(&log, 1).await.is_empty());
    }
    assert!(database.is_writable());
}

#[tokio::test]
async fn events_that_were_taken_back_leave_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let tree = database.tree(TreeName::Agent(AgentId::random())).unwrap();
    let feed = Log::open(tree.clone(), Subject::Town, 16 << 10)
        .await
        .unwrap();
    let stage = |data: &str| {
        let mut batch = Batch::new();
        let staged = feed.stage(&mut batch, &[event(data, None)]);
        (batch, staged)
    };
    let (_refused, _) = stage("1");
    feed.take_back(1);
    let (batch, staged) = stage("2");
    let (log, (done, durable)) = (feed.clone(), oneshot::channel());
    tree.commit(
        batch,
        Box::new(move |result| {
            log.publish(staged);
            done.send(result).unwrap();
        }),
    )
    .unwrap();
    durable.await.unwrap().unwrap();
    assert_eq!(read_all(&feed, 1).await, [(1, "2".to_owned())]);
}

mod retention;
mod sequences;

/// Whether the committer has ended before an append asks for its turn or while it waits for that.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "each outcome is awaited here")]
async fn an_append_is_answered_although_the_committer_ends() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let log = log(&database, AgentId::random()).await;
    let mut waiting = Vec::new();
    for n in 0..200 {
        if n == 100 {
            let database = database.clone();
            waiting.push(tokio::task::spawn_blocking(move || {
                database.close();
                true
            }));
        }
        let log = log.clone();
        waiting.push(tokio::spawn(async move {
            log.append(vec![event("1", None)]).await.is_ok()
        }));
    }
    let mut stored = 0;
    for answer in waiting {
        stored += u64::from(answer.await.unwrap());
    }
    assert_eq!(
        log.position().last_id,
        stored - 1,
        "the closing is no event"
    );
    assert!(log.append(vec![event("1", None)]).await.is_err());
}

/// Large reads are made of two, whose border is guessed from what events weigh on average: here that
/// is wrong nearly everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn large_reads_are_contiguous_however_events_differ_in_size() {
    const READ: usize = 160 << 10;
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let log = log(&database, AgentId::random()).await;
    let lens = [10, 3_000, 200, 20_000, 50, 1_000];
    let mut last = 0;
    for len in lens.iter().cycle().take(24) {
        let data = format!(r#""{}""#, "d".repeat(*len));
        let count = (300_000 / len).min(400);
        last += count as u64;
        log.append(vec![event(&data, None); count]).await.unwrap();
    }
    let (mut from, mut longest) = (1, 0);
    while from <= last {
        let slices = log.read_from_disk(from, READ).await.unwrap();
        assert_eq!(slices.first().unwrap().first_id(), from);
        for pair in slices.windows(2) {
            assert_eq!(pair[1].first_id(), pair[0].last_id() + 1);
        }
        let alone = log.read_piece(from, READ, u64::MAX).await.unwrap();
        let bytes = |slices: &[Slice]| -> Vec<u8> {
            slices.iter().flat_map(|slice| slice.bytes()).collect()
        };
        let (read, alone) = (bytes(&slices), bytes(&alone));
        let len = read.len().min(alone.len());
        assert_eq!(read[..len], alone[..len]);
        longest = longest.max(read.len());
        from += 97;
    }
    assert!(longest > READ / 8 * 6, "both halves were used: {longest}");
    assert!(log.read_from_disk(last + 1, READ).await.unwrap().is_empty());
}
