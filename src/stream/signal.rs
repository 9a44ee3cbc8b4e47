//! How logs wake a connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::agent_log::Watcher;

use super::joining::Joiner;

/// Which of a connection's subscriptions have something to do. Each stands in it at most once, so
/// its size is bounded by the number of subscriptions.
#[derive(Debug, Default)]
pub(super) struct Signal {
    ready: Mutex<Vec<u64>>,
    /// Whether the connection is to look. Set after something was put there, so whoever sees it unset
    /// is still to be woken.
    rung: AtomicBool,
    /// Whether it is to be rung with others.
    joins: AtomicBool,
    /// The connection's task.
    task: AtomicWaker,
}

impl Signal {
    /// Moves the tokens woken since the last call to the end of `ready`.
    pub(super) fn take(&self, ready: &mut VecDeque<u64>) {
        self.rung.store(false, Ordering::SeqCst);
        let mut woken = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(woken.drain(..));
    }

    /// Resolves when there may be some.
    pub(super) async fn woken(&self) {
        poll_fn(|context| self.poll_woken(context)).await;
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

    pub(super) fn ring(&self) {
        self.joins.store(false, Ordering::SeqCst);
        self.rung.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

/// One subscription's part of a signal. Waking one that is awake costs a single exchange, whatever
/// the number of events.
#[derive(Debug)]
pub(super) struct Waker {
    signal: Arc<Signal>,
    joiner: Option<Joiner>,
    awake: AtomicBool,
}

impl Waker {
    /// Awake: the subscription begins with something to do. With a joiner, whatever follows waits for
    /// others.
    pub(super) fn new(signal: Arc<Signal>, joiner: Option<Joiner>) -> Self {
        Self {
            signal,
            joiner,
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
        let signal = &self.signal;
        let mut ready = signal.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(token);
        let is_first = ready.len() == 1;
        drop(ready);
        match &self.joiner {
            _ if !is_first => {}
            None => signal.ring(),
            Some(joiner) => {
                if !signal.joins.swap(true, Ordering::SeqCst) {
                    joiner.add(signal.clone());
                }
            }
        }
    }
}
