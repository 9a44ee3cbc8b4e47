//! Any order of appends, sweeps, closings, restarts and deletions against a plain list.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::agent_log::{Keep, Logs, TailLimits};

#[derive(Clone, Debug)]
enum Step {
    Append { events: usize, size: usize },
    Sweep { events_max: u64 },
    Read { from_back: u64 },
    CloseIdle,
    Restart,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..90, prop_oneof![Just(10usize), Just(300), Just(6_000), Just(40_000)])
            .prop_map(|(events, size)| Step::Append { events: events.min(200_000 / size), size }),
        2 => (1u64..300).prop_map(|events_max| Step::Sweep { events_max }),
        3 => (0u64..400).prop_map(|from_back| Step::Read { from_back }),
        1 => Just(Step::CloseIdle),
        1 => Just(Step::Restart),
        1 => Just(Step::Delete),
    ]
}

/// What a log should hold: the first id kept, and the data of the events.
struct Model {
    agent: AgentId,
    first: u64,
    events: Vec<String>,
    epoch: Option<Epoch>,
}

impl Model {
    fn new() -> Self {
        Self {
            agent: AgentId::random(),
            first: 1,
            events: Vec::new(),
            epoch: None,
        }
    }

    fn last(&self) -> u64 {
        self.events.len() as u64
    }
}

fn logs(dir: &std::path::Path) -> (Database, Logs) {
    let database = database(dir);
    let limits = TailLimits {
        per_log: 64 << 10,
        total: 128 << 10,
    };
    (database.clone(), Logs::within(database, limits))
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, mut all) = logs(dir.path());
    let mut model = Model::new();
    for step in steps {
        let log = all.open(model.agent).await.unwrap();
        let position = log.position();
        assert_eq!(*model.epoch.get_or_insert(position.epoch), position.epoch);
        assert_eq!(
            (position.first_id, position.last_id),
            (model.first, model.last())
        );
        match step {
            Step::Append { events, size } => {
                let datas: Vec<String> = (0..events)
                    .map(|n| format!("\"{}{}\"", model.events.len() + n, "x".repeat(size)))
                    .collect();
                let new = datas.iter().map(|data| event(data, None)).collect();
                let appended = log.append(new).await.unwrap();
                assert_eq!(appended.first_id, model.last() + 1);
                model.events.extend(datas);
            }
            Step::Sweep { events_max } => {
                let keep = Keep {
                    events_max,
                    ..Keep::for_age(Timestamp::from_millis(1_000), Duration::from_secs(9))
                };
                while log.expire(keep, |_, _| {}).await.unwrap().more {}
                let floor = log.position().first_id;
                assert!(floor >= model.first, "a floor never sinks");
                let kept = (model.last() + 1).saturating_sub(floor);
                assert!(
                    kept <= events_max.max(64),
                    "{kept} of {events_max} are kept"
                );
                model.first = floor;
            }
            Step::Read { from_back } => {
                let from = (model.last() + 1).saturating_sub(from_back).max(1);
                let read = read_all(&log, from).await;
                let expected = (from.max(model.first)..=model.last())
                    .map(|id| (id, model.events[usize::try_from(id - 1).unwrap()].clone()));
                assert_eq!(read, expected.collect::<Vec<_>>());
            }
            Step::CloseIdle => {
                drop(log);
                // The committer may be about to let go of it.
                while all.close_idle() == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Step::Restart => {
                drop((log, all));
                database.close();
                drop(database);
                (database, all) = logs(dir.path());
            }
            Step::Delete => {
                all.delete(model.agent).await.unwrap();
                assert!(log.has_ended());
                assert!(all.open(model.agent).await.is_err());
                model = Model::new();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_leaves_what_a_list_would(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(run(steps));
    }
}
