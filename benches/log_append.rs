//! One log's durable append, beside the disk's own floor: the same bytes in the same groups by
//! `write` and `fdatasync`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't go on has nothing to say"
)]

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gastownd::agent_log::{EventView, Logs, NewEvent, text_frame};
use gastownd::model::{AgentId, RigId, Timestamp};
use gastownd::storage::{BeadByRig, Database, Key, OpenOptions};

/// The median size of a real agent's event.
const EVENT_BYTES: usize = 300;

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(
        dir.path(),
        OpenOptions {
            cache_bytes: 32 << 20,
        },
    )
    .unwrap();
    let logs = Logs::new(database.clone(), 256 << 10);
    let log = runtime.block_on(logs.open(AgentId::random())).unwrap();
    let mut file = File::create(dir.path().join("floor")).unwrap();
    let mut group = criterion.benchmark_group("durable append");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    for events in [1usize, 16, 64, 1000] {
        group.throughput(Throughput::Elements(events as u64));
        let batch = vec![event(); events];
        group.bench_with_input(BenchmarkId::new("log", events), &batch, |bencher, batch| {
            bencher.iter(|| runtime.block_on(log.append(batch.clone())).unwrap());
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
    database.close();
}

fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let key = BeadByRig {
        rig_id: RigId::random(),
        seq: 7,
    };
    group.bench_function("key encode", |bencher| bencher.iter(|| key.encode()));
    let bytes = key.encode();
    group.bench_function("key decode", |bencher| {
        bencher.iter(|| BeadByRig::decode(&bytes).unwrap());
    });
    let text = format!(
        r#"{{"agentId":"{}","id":7,"type":"e","data":{},"timestamp":"2026-11-22T06:30:08.945Z"}}"#,
        AgentId::random(),
        event().data
    );
    group.bench_function("frame around text", |bencher| {
        bencher.iter(|| text_frame(&text))
    });
    let frame = text_frame(&text);
    group.bench_function("event of frame", |bencher| {
        bencher.iter(|| EventView::of_frame(&frame).unwrap().id);
    });
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

criterion_group!(benches, append, codecs);
criterion_main!(benches);
