//! Carrying events to the connections that rest.
//!
//! A connection that has sent everything leaves all that is needed for sending with its
//! [`Signal`](super::signal::Signal). When its log has more, one task of a few does that for all such
//! connections in turn: to wake a task for each costs about a fifth of what the event costs in
//! all. What can't be done on the spot (the disk must be read, the socket is full, the log has ended)
//! is left to the connection's own task.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lifecycle::Lifecycle;

use super::signal::Rests;

/// Connections served before other tasks of the processor have a turn.
const TURN_LEN: usize = 32;

/// The tasks that carry events to resting connections; clones are the same ones.
#[derive(Clone, Debug)]
pub struct Fanout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lanes: Vec<Arc<Lane>>,
    next: AtomicUsize,
}

/// One task's connections.
#[derive(Debug)]
pub(super) struct Lane {
    join_interval: Duration,
    /// Connections with something to send, each at most once.
    waiting: Mutex<Vec<Arc<dyn Rests>>>,
    begun: Notify,
}

impl Fanout {
    /// Starts one task for each of the runtime's threads. `join_interval` is the longest time that
    /// an event waits for others to share its write; one timer does that for all, because a timer of
    /// each connection's own costs more than the write that it saves.
    #[must_use]
    pub fn start(join_interval: Duration, lifecycle: &Lifecycle) -> Self {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let lanes = (0..threads).map(|_| Lane::start(join_interval, lifecycle));
        Self(Arc::new(Inner {
            lanes: lanes.collect(),
            next: AtomicUsize::new(0),
        }))
    }

    /// The lane of a new connection.
    pub(super) fn lane(&self) -> Arc<Lane> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.lanes[number % self.0.lanes.len()].clone()
    }
}

impl Lane {
    fn start(join_interval: Duration, lifecycle: &Lifecycle) -> Arc<Self> {
        let lane = Arc::new(Self {
            join_interval,
            waiting: Mutex::default(),
            begun: Notify::new(),
        });
        // Its writes never wait, so it gives way by itself. The runtime's own count would make full
        // sockets of those behind the first hundred.
        let task = tokio::task::unconstrained(lane.clone().run());
        lifecycle.spawn_detached("carry events", task);
        lane
    }

    async fn run(self: Arc<Self>) {
        let mut round = Vec::new();
        loop {
            self.begun.notified().await;
            if !self.join_interval.is_zero() {
                tokio::time::sleep(self.join_interval).await;
            }
            std::mem::swap(&mut round, &mut *self.waiting());
            for (number, connection) in round.drain(..).enumerate() {
                connection.serve();
                if number % TURN_LEN == TURN_LEN - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Whether events wait for others.
    pub(super) fn joins(&self) -> bool {
        !self.join_interval.is_zero()
    }

    /// Serves this one with the others.
    pub(super) fn add(&self, connection: Arc<dyn Rests>) {
        let mut waiting = self.waiting();
        waiting.push(connection);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            self.begun.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<dyn Rests>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
