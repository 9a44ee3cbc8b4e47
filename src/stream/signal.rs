//! How logs wake a connection, and where it rests meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::agent_log::Watcher;

use super::fanout::Lane;

/// Which of a connection's subscriptions have something to do. Each stands in it at most once, so
/// its size is bounded by the number of subscriptions.
#[derive(Debug, Default)]
pub(super) struct Signal {
    ready: Mutex<Vec<u64>>,
    /// Whether the connection's task is to look. Set after something was put there, so whoever sees
    /// it unset is still to be woken.
    rung: AtomicBool,
    /// Whether it stands in its lane.
    queued: AtomicBool,
    /// Whether the connection rests with nothing to do, so that its lane may serve it.
    at_rest: AtomicBool,
    /// The connection's task.
    task: AtomicWaker,
}

impl Signal {
    /// Moves the tokens woken since the last call to the end of `ready`.
    fn take(&self, ready: &mut VecDeque<u64>) {
        let mut woken = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(woken.drain(..));
    }

    fn poll_woken(&self, context: &Context<'_>) -> Poll<()> {
        if !self.rung.load(Ordering::SeqCst) {
            self.task.register(context.waker());
            // One that came meanwhile may have found no task to wake.
            if !self.rung.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

/// What rests: it can be served without waiting.
pub(super) trait Serve: Send {
    /// The subscriptions that have something to do.
    fn ready(&mut self) -> &mut VecDeque<u64>;

    /// Does what can be done at once; whether that was all.
    fn serve_now(&mut self) -> bool;
}

/// A connection's signal, with the connection while it rests.
pub(super) struct Seat<C> {
    signal: Signal,
    resting: Mutex<Option<C>>,
}

impl<C> Default for Seat<C> {
    fn default() -> Self {
        Self {
            signal: Signal::default(),
            resting: Mutex::new(None),
        }
    }
}

impl<C> Seat<C> {
    /// Moves the tokens woken since the last call to the end of `ready`; for the connection's task.
    pub(super) fn take(&self, ready: &mut VecDeque<u64>) {
        self.signal.rung.store(false, Ordering::SeqCst);
        self.signal.take(ready);
    }

    /// Resolves when there may be some, and nobody but the connection's task to serve them.
    pub(super) async fn woken(&self) {
        poll_fn(|context| self.signal.poll_woken(context)).await;
    }

    /// Leaves the connection here. Nobody serves it unless it has `nothing_to_do`.
    pub(super) fn rest(&self, connection: C, nothing_to_do: bool) -> Resting<'_, C> {
        *self.lock() = Some(connection);
        self.signal.at_rest.store(nothing_to_do, Ordering::SeqCst);
        Resting(self)
    }

    fn lock(&self) -> MutexGuard<'_, Option<C>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resting connection. It goes with this, or the subscriptions in it would keep it for ever.
#[must_use]
pub(super) struct Resting<'a, C>(&'a Seat<C>);

impl<C> Resting<'_, C> {
    /// Takes the connection back; `None` if serving it has failed.
    pub(super) fn rise(self) -> Option<C> {
        self.take()
    }

    fn take(&self) -> Option<C> {
        self.0.signal.at_rest.store(false, Ordering::SeqCst);
        self.0.lock().take()
    }
}

impl<C> Drop for Resting<'_, C> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A seat, whatever rests in it.
pub(super) trait Rests: Send + Sync {
    fn signal(&self) -> &Signal;

    /// Serves the connection if it rests, and rings for its task if that has more to do.
    fn serve(&self);
}

impl fmt::Debug for dyn Rests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signal().fmt(f)
    }
}

impl<C: Serve> Rests for Seat<C> {
    fn signal(&self) -> &Signal {
        &self.signal
    }

    fn serve(&self) {
        self.signal.queued.store(false, Ordering::SeqCst);
        let mut resting = self.lock();
        if let Some(connection) = resting.as_mut() {
            self.signal.take(connection.ready());
            // Many others depend on this task, and none of them on this connection.
            match catch_unwind(AssertUnwindSafe(|| connection.serve_now())) {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => *resting = None,
            }
        }
        drop(resting);
        self.signal.ring();
    }
}

/// One subscription's part of a signal. Waking one that is awake costs a single exchange, whatever
/// the number of events.
#[derive(Debug)]
pub(super) struct Waker {
    seat: Arc<dyn Rests>,
    lane: Arc<Lane>,
    awake: AtomicBool,
}

impl Waker {
    /// Awake: the subscription begins with something to do.
    pub(super) fn new(seat: Arc<dyn Rests>, lane: Arc<Lane>) -> Self {
        Self {
            seat,
            lane,
            awake: AtomicBool::new(true),
        }
    }

    /// From now on it is to be woken; called before the log is read.
    pub(super) fn rest(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }
}

impl Watcher for Waker {
    fn wake(&self, token: u64) {
        if self.awake.swap(true, Ordering::SeqCst) {
            return;
        }
        let signal = self.seat.signal();
        let mut ready = signal.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(token);
        let is_first = ready.len() == 1;
        drop(ready);
        if !is_first {
            return;
        }
        if !(self.lane.joins() || signal.at_rest.load(Ordering::SeqCst)) {
            signal.ring();
        } else if !signal.queued.swap(true, Ordering::SeqCst) {
            self.lane.add(self.seat.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::stream::Fanout;

    /// Notes what it was served, and fails at some tokens.
    struct Noting {
        ready: VecDeque<u64>,
        served: Arc<Mutex<Vec<u64>>>,
    }

    const TOO_MUCH: u64 = 100;
    const PANICS: u64 = 101;

    impl Serve for Noting {
        fn ready(&mut self) -> &mut VecDeque<u64> {
            &mut self.ready
        }

        fn serve_now(&mut self) -> bool {
            while let Some(token) = self.ready.pop_front() {
                assert_ne!(token, PANICS, "on purpose");
                if token == TOO_MUCH {
                    self.ready.push_front(token);
                    return false;
                }
                self.served.lock().unwrap().push(token);
            }
            true
        }
    }

    struct Rested {
        seat: Arc<Seat<Noting>>,
        served: Arc<Mutex<Vec<u64>>>,
        lane: Arc<Lane>,
    }

    impl Rested {
        fn new(lane: &Arc<Lane>) -> Self {
            Self {
                seat: Arc::default(),
                served: Arc::default(),
                lane: lane.clone(),
            }
        }

        fn rest(&self, nothing_to_do: bool) -> Resting<'_, Noting> {
            let (ready, served) = (VecDeque::new(), self.served.clone());
            self.seat.rest(Noting { ready, served }, nothing_to_do)
        }

        fn wake(&self, token: u64) {
            let waker = Waker::new(self.seat.clone(), self.lane.clone());
            waker.rest();
            waker.wake(token);
            waker.wake(token);
        }

        async fn until_served(&self, count: usize) -> Vec<u64> {
            loop {
                let served = self.served.lock().unwrap().clone();
                if served.len() >= count {
                    return served;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }

        fn is_rung(&self) -> bool {
            self.seat.signal.rung.load(Ordering::SeqCst)
        }
    }

    fn lane(join_interval: Duration) -> Arc<Lane> {
        Fanout::start(join_interval, &Lifecycle::new()).lane()
    }

    #[tokio::test]
    async fn one_that_rests_is_served_and_its_task_sleeps_on() {
        for interval in [Duration::ZERO, Duration::from_millis(5)] {
            let rested = Rested::new(&lane(interval));
            let resting = rested.rest(true);
            for token in 0..3 {
                rested.wake(token);
            }
            assert_eq!(rested.until_served(3).await, [0, 1, 2]);
            rested.wake(3);
            rested.until_served(4).await;
            assert!(!rested.is_rung());
            assert!(resting.rise().unwrap().ready.is_empty());
        }
    }

    #[tokio::test]
    async fn who_has_more_to_do_is_rung_for() {
        let rested = Rested::new(&lane(Duration::ZERO));
        let resting = rested.rest(true);
        rested.wake(7);
        rested.wake(TOO_MUCH);
        rested.seat.woken().await;
        assert_eq!(rested.until_served(1).await, [7]);
        assert_eq!(resting.rise().unwrap().ready, [TOO_MUCH]);
        // At work, and at rest with more to do.
        for has_more in [false, true] {
            let resting = has_more.then(|| rested.rest(false));
            rested.seat.take(&mut VecDeque::new());
            assert!(!rested.is_rung());
            rested.wake(8);
            assert!(rested.is_rung());
            drop(resting);
            let mut ready = VecDeque::new();
            rested.seat.take(&mut ready);
            assert_eq!(ready, [8]);
        }
        assert_eq!(rested.until_served(1).await, [7]);
    }

    #[tokio::test]
    async fn one_that_panics_ends_alone() {
        let lane = lane(Duration::ZERO);
        let [bad, good] = [Rested::new(&lane), Rested::new(&lane)];
        let resting = [bad.rest(true), good.rest(true)];
        bad.wake(PANICS);
        good.wake(1);
        bad.seat.woken().await;
        good.until_served(1).await;
        assert_eq!(
            resting.map(|resting| resting.rise().is_some()),
            [false, true]
        );
    }

    #[tokio::test]
    async fn a_connection_goes_with_its_task() {
        let rested = Rested::new(&lane(Duration::ZERO));
        drop(rested.rest(true));
        assert_eq!(Arc::strong_count(&rested.served), 1);
        rested.wake(1);
        rested.seat.woken().await;
    }
}
