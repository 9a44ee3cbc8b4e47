//! The small steps that everything is made of, each alone: frames, segments, keys, routes, commits.
//!
//! A durable append stands beside the disk's own floor: the same bytes in the same groups by `write`
//! and `fdatasync`. How the whole server does is measured by the program in `load`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't go on has nothing to say"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gastownd::agent_log::{EventView, Log, Logs, NewEvent, text_frame};
use gastownd::http;
use gastownd::model::{AgentId, RigId, Timestamp};
use gastownd::storage::{
    Batch, BeadByRig, Count, CounterKey, Database, Key, OpenOptions, SegmentHead, SegmentKey, Tree,
    TreeName,
};
use hyper::Method;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The median size of a real agent's event.
const EVENT_BYTES: usize = 300;
/// As many events of that size as fit into the one row of a segment.
const SEGMENT_EVENTS: usize = 10;

/// A database in a folder of its own.
struct Store {
    runtime: Runtime,
    database: Database,
    folder: TempDir,
}

impl Store {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            cache_bytes: 32 << 20,
        };
        let database = Database::open(folder.path(), options).unwrap();
        Self {
            runtime,
            database,
            folder,
        }
    }

    fn log(&self) -> Log {
        let logs = Logs::new(self.database.clone(), 256 << 10);
        self.runtime.block_on(logs.open(AgentId::random())).unwrap()
    }

    fn commit(&self, tree: &Tree, batch: Batch) {
        let (done, outcome) = std::sync::mpsc::channel();
        let told = move |result| drop(done.send(result));
        tree.commit(batch, Box::new(told)).unwrap();
        outcome.recv().unwrap().unwrap();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.database.close();
    }
}

fn append(criterion: &mut Criterion) {
    let store = Store::new();
    let log = store.log();
    let mut file = File::create(store.folder.path().join("floor")).unwrap();
    let mut group = criterion.benchmark_group("durable append");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    for events in [1usize, 16, 64, 1000] {
        group.throughput(Throughput::Elements(events as u64));
        let batch = vec![event(); events];
        group.bench_with_input(BenchmarkId::new("log", events), &batch, |bencher, batch| {
            bencher.iter(|| store.runtime.block_on(log.append(batch.clone())).unwrap());
        });
        let bytes = vec![b'x'; events * EVENT_BYTES];
        group.bench_with_input(
            BenchmarkId::new("floor", events),
            &bytes,
            |bencher, bytes| {
                bencher.iter(|| {
                    file.write_all(bytes).unwrap();
                    file.sync_data().unwrap();
                });
            },
        );
    }
    group.finish();
}

/// One row and its way to the disk, with nobody else about.
fn commit(criterion: &mut Criterion) {
    let store = Store::new();
    let tree = store.database.tree(TreeName::Meta).unwrap();
    let mut group = criterion.benchmark_group("commit");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    group.bench_function("one row", |bencher| {
        bencher.iter(|| {
            let mut batch = Batch::new();
            batch.put(&CounterKey {}, &Count { value: 7 });
            store.commit(&tree, batch);
        });
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let text = format!(
        r#"{{"agentId":"{}","id":7,"type":"e","data":{},"timestamp":"2026-11-22T06:30:08.945Z"}}"#,
        AgentId::random(),
        event().data
    );
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("around text", |bencher| {
        bencher.iter(|| text_frame(black_box(&text)));
    });
    let frame = text_frame(&text);
    group.bench_function("read back", |bencher| {
        bencher.iter(|| EventView::of_frame(black_box(&frame)).unwrap().id);
    });
    group.finish();
}

fn segments(criterion: &mut Criterion) {
    let store = Store::new();
    let log = store.log();
    let events = vec![event(); SEGMENT_EVENTS];
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Elements(SEGMENT_EVENTS as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter_batched(
            Batch::new,
            |mut batch| {
                let staged = log.stage(&mut batch, black_box(&events));
                log.take_back(1);
                (batch, staged)
            },
            BatchSize::SmallInput,
        );
    });
    // From the database's cache, as a backfill reads it.
    let tree = store
        .database
        .tree(TreeName::Agent(AgentId::random()))
        .unwrap();
    let frame = text_frame(&"x".repeat(EVENT_BYTES));
    let offsets = (0..SEGMENT_EVENTS).map(|index| u32::try_from(index * frame.len()).unwrap());
    let head = SegmentHead {
        bytes_before: 0,
        first_id: 1,
        offsets: offsets.collect(),
        link: None,
    };
    let key = SegmentKey { first_id: 1 };
    let mut batch = Batch::new();
    batch.append(&key, &head, &frame.repeat(SEGMENT_EVENTS));
    store.commit(&tree, batch);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let row = tree.scan_from(&key).unwrap().next().unwrap().unwrap();
            row.into_parts().0.offsets.len()
        });
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let key = BeadByRig {
        rig_id: RigId::random(),
        seq: 7,
    };
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&key).encode());
    });
    let bytes = key.encode();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| BeadByRig::decode(black_box(&bytes)).unwrap());
    });
    group.finish();
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let town = "/api/towns/6f1f2c1e-6f0e-4c59-9b1c-0f6a1d2b3c4d";
    let rig = format!("{town}/rigs/7a0e4f2c-9d3b-4a51-8c6e-1b2f3d4c5e6f");
    for (name, path, found) in [
        ("append", format!("{rig}/agent-events"), true),
        (
            "events",
            format!("{rig}/agents/{}/events", AgentId::random()),
            true,
        ),
        ("none", format!("{town}/moon"), false),
    ] {
        let method = if name == "append" {
            Method::POST
        } else {
            Method::GET
        };
        assert_eq!(http::is_found(&method, &path), found, "{path}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| http::is_found(black_box(&method), black_box(&path)));
        });
    }
    group.finish();
}

fn event() -> NewEvent {
    NewEvent {
        event_type: "message.part.delta".to_owned(),
        data: format!("\"{}\"", "x".repeat(EVENT_BYTES)).into(),
        timestamp: Timestamp::from_millis(1_795_328_992_210),
        link: None,
    }
}

criterion_group!(benches, frames, segments, keys, routes, commit, append);
criterion_main!(benches);
