//! Group commit: one thread flushes for everybody.
//!
//! A flush costs much the same however many batches it is for, and sled wakes all of its own threads
//! for each. So while several writers are at work, the thread waits a little for those that the
//! last flush released (see [`Gathering`]); one writer alone never waits.
//!
//! Batches come in two kinds. An [`Applied`] one is in the engine already and is durable when that was
//! flushed. One that goes [`Ahead`] is durable in the [journal] first and reaches the engine after
//! that, which is much cheaper; only its rows can't be read before.

mod disk;
mod group;
mod journal;

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;

use crate::telemetry::{self, metrics};

use super::Error;
use super::batch::Batch;
use super::space::Space;
use super::trees::{Tree, TreeState};

use disk::Disk;
use group::{Gathering, Group};
use journal::Journal;

/// Called from the committer's thread once a batch is durable, or can't become so.
pub type OnDurable = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A batch that was not applied.
pub struct Refused {
    /// Why.
    pub error: Error,
    /// Who was to be told, and was not.
    pub on_durable: OnDurable,
}

impl Refused {
    /// Tells who waits.
    pub fn tell(self) {
        (self.on_durable)(Err(self.error));
    }
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Refused").field(&self.error).finish()
    }
}

/// Hands applied batches to the committing thread. The queue needs no bound of its own: a tree has
/// at most one batch per caller in it, and callers are bounded where they enter (requests, logs).
#[derive(Clone, Debug)]
pub(super) struct Committer {
    jobs: Sender<Job>,
    standing: Arc<watch::Sender<Standing>>,
    space: Arc<Space>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Set where a test moves the committer by hand and takes batches back.
    #[cfg(test)]
    changes: Option<super::trees::by_hand::Changes>,
}

/// Whether writes are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// The server is ending.
    Closed,
    /// A write failed, for this reason. Nothing is flushed any more: a batch may be applied in part,
    /// and a sync that follows a failed one may succeed although the bytes are lost.
    Poisoned(String),
}

/// Called from the committer's thread before its next flush.
pub type Turn = Box<dyn FnOnce() + Send>;

/// A batch that the engine has.
pub(super) struct Applied {
    pub(super) tree: Arc<TreeState>,
    pub(super) number: u64,
    pub(super) on_durable: OnDurable,
}

/// A batch that the engine gets once it is durable.
pub(super) struct Ahead {
    pub(super) tree: Tree,
    pub(super) batch: Batch,
    pub(super) number: u64,
    pub(super) on_durable: OnDurable,
}

impl Ahead {
    fn end(self, failure: Option<&str>) {
        let outcome = match failure {
            None => self.tree.carry_out(self.batch, self.number),
            Some(reason) => Err(poisoned(reason)),
        };
        (self.on_durable)(outcome);
    }
}

pub(super) enum Job {
    Applied(Applied),
    Ahead(Ahead),
    /// Nothing is to be left in the journal.
    EmptyJournal(Sender<Result<(), Error>>),
    /// What wants to write, and does it when the thread comes to it.
    Turn(Turn),
    Stop,
}

impl Committer {
    pub(super) fn start(db: sled::Db, path: &Path, space: Space) -> Result<Self, Error> {
        let mut disk = Disk::open(db, path)?;
        let (jobs, waiting) = mpsc::channel();
        let standing = Arc::new(watch::Sender::new(Standing::Open));
        let committing = standing.clone();
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run(&mut disk, &waiting, &committing))
            .map_err(|source| Error::Open {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            jobs,
            standing,
            space: Arc::new(space),
            thread: Arc::new(Mutex::new(Some(thread))),
            #[cfg(test)]
            changes: None,
        })
    }

    /// Queues a batch.
    pub(super) fn queue(&self, job: Job) -> Result<(), Refused> {
        let Err(mpsc::SendError(job)) = self.jobs.send(job) else {
            return Ok(());
        };
        let reason = "the committer has ended";
        self.poison(reason);
        match job {
            Job::Applied(Applied { on_durable, .. }) | Job::Ahead(Ahead { on_durable, .. }) => {
                let error = poisoned(reason);
                Err(Refused { error, on_durable })
            }
            Job::EmptyJournal(_) | Job::Turn(_) | Job::Stop => Ok(()),
        }
    }

    /// Makes everything durable in the engine itself, so that nothing of what was written so far is
    /// carried out again at the next start; waits for that.
    pub(super) fn empty_journal(&self) -> Result<(), Error> {
        let (done, outcome) = mpsc::channel();
        drop(self.jobs.send(Job::EmptyJournal(done)));
        outcome.recv().unwrap_or_else(|_| self.check())
    }

    /// Calls `turn` from the committer's thread before its next flush. It is dropped where the
    /// committer has ended.
    pub(super) fn take_turn(&self, turn: Turn) {
        // What could not be sent is dropped, which is what was promised.
        drop(self.jobs.send(Job::Turn(turn)));
    }

    /// Room on the disk.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// Bytes that the journal takes on the disk.
    pub(super) fn journal_size(&self) -> u64 {
        Journal::size(self.space.path())
    }

    /// Refuses all further writes; the first reason is kept.
    pub(super) fn poison(&self, reason: &str) {
        poison(&self.standing, reason);
    }

    /// Poisons the database if the caller panics before it drops the answer.
    pub(super) fn poison_on_panic(&self, during: &'static str) -> PoisonOnPanic {
        PoisonOnPanic {
            standing: self.standing.clone(),
            during,
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.standing.borrow().check()
    }

    /// Resolves when a write has failed.
    pub(super) async fn poisoned(&self) {
        let mut standing = self.standing.subscribe();
        let failed = |standing: &Standing| matches!(standing, Standing::Poisoned(_));
        let _ = standing.wait_for(failed).await;
    }

    /// Resolves when writes are refused from now on, for whatever reason.
    pub(super) async fn refusing(&self) {
        let mut standing = self.standing.subscribe();
        let _ = standing
            .wait_for(|standing| *standing != Standing::Open)
            .await;
    }

    /// Makes durable what is queued, then ends the thread.
    pub(super) fn stop(&self) {
        self.standing.send_if_modified(|standing| {
            let open = *standing == Standing::Open;
            if open {
                *standing = Standing::Closed;
            }
            open
        });
        let _ = self.jobs.send(Job::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
impl Committer {
    /// A committer without a thread: what is queued arrives at the receiver.
    pub(super) fn by_hand(
        path: &Path,
        changes: super::trees::by_hand::Changes,
    ) -> (Self, Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel();
        let committer = Self {
            jobs,
            standing: Arc::new(watch::Sender::new(Standing::Open)),
            space: Arc::new(Space::new(path, 0)),
            thread: Arc::default(),
            changes: Some(changes),
        };
        (committer, waiting)
    }

    pub(super) fn changes(&self) -> Option<&super::trees::by_hand::Changes> {
        self.changes.as_ref()
    }
}

impl Standing {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(poisoned("it is closed")),
            Self::Poisoned(reason) => Err(poisoned(reason)),
        }
    }
}

/// See [`Committer::poison_on_panic`].
pub(super) struct PoisonOnPanic {
    standing: Arc<watch::Sender<Standing>>,
    during: &'static str,
}

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            poison(&self.standing, &format!("a panic during {}", self.during));
        }
    }
}

fn poison(standing: &watch::Sender<Standing>, reason: &str) {
    standing.send_if_modified(|standing| {
        let first = !matches!(standing, Standing::Poisoned(_));
        if first {
            tracing::error!(reason, "the database stops taking writes");
            *standing = Standing::Poisoned(reason.to_owned());
        }
        first
    });
}

fn poisoned(reason: &str) -> Error {
    let reason = reason.to_owned();
    Error::Poisoned { reason }
}

/// Where batches become durable.
trait Medium {
    /// Makes the first of these durable, and as many of the others as go with it; how many.
    fn write_ahead(&mut self, batches: &[Ahead]) -> Result<usize, Error>;

    /// Makes everything durable that the engine has.
    fn sync_engine(&mut self) -> Result<(), Error>;

    /// The same, so that nothing of it is carried out again at the next start.
    fn empty_journal(&mut self) -> Result<(), Error>;
}

fn run(medium: &mut impl Medium, waiting: &Receiver<Job>, standing: &Arc<watch::Sender<Standing>>) {
    let _watch = PoisonOnPanic {
        standing: standing.clone(),
        during: "a commit",
    };
    let mut gathering = Gathering::default();
    let mut group = Group::default();
    while !group.stopping {
        let Ok(first) = waiting.recv() else { return };
        group.take(first);
        group.take_all(waiting);
        gathering.wait(&mut group, waiting);
        group.give_turns(waiting);
        let begun = Instant::now();
        let batches = group.batches();
        write_ahead(medium, &mut group, standing);
        sync_engine(medium, &mut group, standing);
        if batches > 0 {
            gathering.flushed(batches, begun.elapsed());
            metrics::COMMITS.observe(begun.elapsed());
        }
    }
}

/// Makes the batches durable that the engine does not have yet, and gives them to it.
fn write_ahead(medium: &mut impl Medium, group: &mut Group, standing: &watch::Sender<Standing>) {
    while !group.ahead.is_empty() {
        let written = attempt(standing, || medium.write_ahead(&group.ahead));
        let (count, failure) = match written {
            Ok(count) => (count, None),
            Err(reason) => (group.ahead.len(), Some(reason)),
        };
        if failure.is_none() {
            metrics::BATCHES.add(count as u64);
        }
        for batch in group.ahead.drain(..count) {
            batch.end(failure.as_deref());
        }
    }
}

/// Makes durable what the engine has, if anybody waits for that.
fn sync_engine(medium: &mut impl Medium, group: &mut Group, standing: &watch::Sender<Standing>) {
    let outcome = if group.stopping || !group.journal_waiters.is_empty() {
        attempt(standing, || medium.empty_journal())
    } else if !group.applied.is_empty() {
        attempt(standing, || medium.sync_engine())
    } else {
        return;
    };
    let told = || outcome.as_ref().copied().map_err(|reason| poisoned(reason));
    if outcome.is_ok() {
        metrics::BATCHES.add(group.applied.len() as u64);
    }
    for batch in group.applied.drain(..) {
        if outcome.is_ok() {
            batch.tree.durable.send_replace(batch.number);
        }
        (batch.on_durable)(told());
    }
    for waiter in group.journal_waiters.drain(..) {
        // Who does not wait any more does not care.
        let _ = waiter.send(told());
    }
}

/// Writes; why not, if that can't be done or must not be tried again.
fn attempt<T>(
    standing: &watch::Sender<Standing>,
    write: impl FnOnce() -> Result<T, Error>,
) -> Result<T, String> {
    if let Standing::Poisoned(reason) = &*standing.borrow() {
        return Err(reason.clone());
    }
    write().map_err(|error| {
        let reason = telemetry::chain(&error);
        poison(standing, &reason);
        reason
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::path::PathBuf;

    use super::*;

    /// A disk that does what it is told to.
    struct Scripted<F>(F);

    impl<F: FnMut() -> Result<(), Error>> Medium for Scripted<F> {
        fn write_ahead(&mut self, batches: &[Ahead]) -> Result<usize, Error> {
            (self.0)().map(|()| batches.len())
        }

        fn sync_engine(&mut self) -> Result<(), Error> {
            (self.0)()
        }

        fn empty_journal(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    /// After a failed sync the kernel may say of the next one that it went well, although what the
    /// first was to write is lost.
    #[test]
    fn a_sync_that_failed_is_the_last() {
        let (jobs, waiting) = mpsc::channel();
        let (outcomes, told) = mpsc::channel();
        let tree: Arc<TreeState> = Arc::default();
        let syncs = Cell::new(0u64);
        let queue = |number: u64| {
            let (outcomes, all) = (outcomes.clone(), jobs.clone());
            let on_durable: OnDurable = Box::new(move |result| {
                outcomes.send(result).unwrap();
                if number == 3 {
                    all.send(Job::Stop).unwrap();
                }
            });
            let tree = tree.clone();
            let batch = Applied {
                tree,
                number,
                on_durable,
            };
            jobs.send(Job::Applied(batch)).unwrap();
        };
        queue(1);
        let sync = || {
            syncs.set(syncs.get() + 1);
            // The next batch arrives while this one is synced.
            queue(syncs.get() + 1);
            if syncs.get() == 2 {
                let (path, source) = (PathBuf::from("here"), io::Error::other("no such disk"));
                return Err(Error::Sync { path, source });
            }
            Ok(())
        };
        let standing = Arc::new(watch::Sender::new(Standing::Open));
        run(&mut Scripted(sync), &waiting, &standing);
        let results: Vec<_> = told.try_iter().collect();
        let [Ok(()), Err(second), Err(third)] = &results[..] else {
            panic!("only the first is durable: {results:?}");
        };
        assert!(
            second
                .to_string()
                .contains("cannot sync here: no such disk")
        );
        assert_eq!(second.to_string(), third.to_string());
        assert_eq!(syncs.get(), 2, "it is not tried again");
        assert_eq!(*tree.durable.borrow(), 1);
        assert!(standing.borrow().check().is_err());
    }

    #[test]
    fn what_is_written_in_a_turn_needs_no_flush_of_its_own() {
        let (jobs, waiting) = mpsc::channel();
        let (outcomes, told) = mpsc::channel();
        let tree: Arc<TreeState> = Arc::default();
        let written = |number: u64| {
            let (tree, outcomes) = (tree.clone(), outcomes.clone());
            Job::Applied(Applied {
                tree,
                number,
                on_durable: Box::new(move |result| outcomes.send((number, result)).unwrap()),
            })
        };
        jobs.send(written(1)).unwrap();
        let (job, queue) = (written(2), jobs.clone());
        jobs.send(Job::Turn(Box::new(move || queue.send(job).unwrap())))
            .unwrap();
        let syncs = Cell::new(0u64);
        let sync = || {
            syncs.set(syncs.get() + 1);
            jobs.send(Job::Stop).unwrap();
            Ok(())
        };
        let standing = Arc::new(watch::Sender::new(Standing::Open));
        run(&mut Scripted(sync), &waiting, &standing);
        let done: Vec<_> = told.try_iter().map(|(number, _)| number).collect();
        assert_eq!((done, syncs.get()), (vec![1, 2], 1));
        assert_eq!(*tree.durable.borrow(), 2);
    }
}
