//! The server's part: the real actor over the real storage code, driven by hand.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::agent_log::{Log, Subject};
use crate::clock::Clock;
use crate::model::{Town, TownId, UserId};
use crate::storage::by_hand::ByHand;
use crate::storage::{Batch, TownKey, Tree};
use crate::town::actor::Actor;
use crate::town::effects::Effect;
use crate::town::recorder::Recorder;
use crate::town::settings::TownSettings;

pub(super) const ATTEMPTS_MAX: u32 = 5;
/// How long a container with nothing to do goes on.
pub(super) const SLEEP_AFTER: Duration = Duration::from_secs(20 * 60);
const TAIL_BYTES: usize = 64 << 10;

/// One life of the server process, as far as one town is concerned.
pub(super) struct Server {
    pub(super) tree: Tree,
    pub(super) actor: Actor,
    /// Effects of durable batches, in order.
    pub(super) effects: mpsc::UnboundedReceiver<Effect>,
    /// What the reconciler saw and decided, a line for each look.
    pub(super) looks: mpsc::Receiver<String>,
}

/// Makes the town as the registry does.
pub(super) fn create(hand: &mut ByHand, name: &str, town_id: TownId, clock: &Clock) {
    let tree = hand.open(name);
    let town = Town {
        town_id,
        name: "simulated".to_owned(),
        owner_user_id: UserId::parse("owner").unwrap(),
        created_at: clock.now(),
        updated_at: clock.now(),
        paused: false,
    };
    let mut batch = Batch::new();
    batch.put(&TownKey {}, &town);
    tree.commit(batch, Box::new(|result| result.unwrap()))
        .unwrap();
    hand.make_durable(usize::MAX);
}

impl Server {
    /// A process that has just opened the town's tree.
    pub(super) fn open(hand: &mut ByHand, name: &str, town_id: TownId, clock: &Clock) -> Self {
        let tree = hand.open(name);
        let opening = Log::open(tree.clone(), Subject::Town, TAIL_BYTES);
        let feed = complete(hand, opening).unwrap();
        let (asked, effects) = mpsc::unbounded_channel();
        let (recorder, looks) = Recorder::held();
        let actor = Actor {
            town_id,
            tree: tree.clone(),
            next_fact: feed.position().last_id + 1,
            feed,
            clock: clock.clone(),
            settings: settings(),
            effects: asked,
            heard: false,
            untaken_link: None,
            being_told: Vec::new(),
            being_notified: Vec::new(),
            alarm: clock.now(),
            woken: false,
            up_since: None,
            once: None,
            quiet: false,
            record: Some(recorder.of(town_id)),
        };
        Self {
            tree,
            actor,
            effects,
            looks,
        }
    }
}

fn settings() -> TownSettings {
    TownSettings {
        backoff_min: Duration::from_secs(30),
        backoff_max: Duration::from_secs(600),
        attempts_max: ATTEMPTS_MAX,
        failures_max: 20,
        failures_window: Duration::from_secs(30 * 60),
        probe_after: Duration::from_secs(5 * 60),
        patrol_after: Duration::from_secs(30 * 60),
        allow_local_repos: false,
        allow_http_repos: false,
        ask_patience: Duration::from_secs(5 * 60),
        notifies: true,
        sleep_after: SLEEP_AFTER,
        on_demand: false,
    }
}

/// Runs a future that waits for nothing but the disk.
fn complete<F: Future>(hand: &mut ByHand, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                assert!(hand.pending() > 0, "it waits for something else");
                hand.make_durable(usize::MAX);
            }
        }
    }
}
