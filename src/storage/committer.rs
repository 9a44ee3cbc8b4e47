//! Group commit: one thread flushes for everybody.
//!
//! A flush costs much the same however many batches it is for, and sled wakes all of its own threads
//! for each. So while several writers are at work, the thread waits a little for those that the
//! last flush released (see [`Gathering`]); one writer alone never waits.

mod group;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;

use crate::telemetry::{self, metrics};

use super::Error;
use super::space::Space;
use super::trees::TreeState;

use group::{Gathering, Group};

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

pub(super) enum Job {
    Written {
        tree: Arc<TreeState>,
        number: u64,
        on_durable: OnDurable,
    },
    /// What wants to write, and does it when the thread comes to it.
    Turn(Turn),
    Stop,
}

impl Committer {
    pub(super) fn start(db: sled::Db, path: &Path, space: Space) -> Result<Self, Error> {
        let disk = Disk::open(db, path)?;
        let (jobs, waiting) = mpsc::channel();
        let standing = Arc::new(watch::Sender::new(Standing::Open));
        let committing = standing.clone();
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run(|| disk.sync(), &waiting, &committing))
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

    pub(super) fn queue(
        &self,
        tree: Arc<TreeState>,
        number: u64,
        on_durable: OnDurable,
    ) -> Result<(), Refused> {
        let job = Job::Written {
            tree,
            number,
            on_durable,
        };
        let Err(mpsc::SendError(Job::Written { on_durable, .. })) = self.jobs.send(job) else {
            return Ok(());
        };
        self.poison("the committer has ended");
        let reason = "the committer has ended".to_owned();
        let error = Error::Poisoned { reason };
        Err(Refused { error, on_durable })
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
        let reason = match self {
            Self::Open => return Ok(()),
            Self::Closed => "it is closed".to_owned(),
            Self::Poisoned(reason) => reason.clone(),
        };
        Err(Error::Poisoned { reason })
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

fn run(
    sync: impl Fn() -> Result<(), Error>,
    waiting: &Receiver<Job>,
    standing: &Arc<watch::Sender<Standing>>,
) {
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
        if group.written.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let failure = flush(&sync, standing);
        gathering.flushed(group.written.len(), begun.elapsed());
        metrics::COMMITS.observe(begun.elapsed());
        if failure.is_none() {
            metrics::BATCHES.add(group.written.len() as u64);
        }
        for (tree, number, on_durable) in group.written.drain(..) {
            match &failure {
                None => {
                    tree.durable.send_replace(number);
                    on_durable(Ok(()));
                }
                Some(reason) => on_durable(Err(Error::Poisoned {
                    reason: reason.clone(),
                })),
            }
        }
    }
}

/// Makes durable what was applied; why not, if that can't be done or must not be tried again.
fn flush(
    sync: impl Fn() -> Result<(), Error>,
    standing: &watch::Sender<Standing>,
) -> Option<String> {
    if let Standing::Poisoned(reason) = &*standing.borrow() {
        return Some(reason.clone());
    }
    let error = sync().err()?;
    let reason = telemetry::chain(&error);
    poison(standing, &reason);
    Some(reason)
}

/// What has to be on disk before anybody is told.
struct Disk {
    db: sled::Db,
    file: File,
    path: PathBuf,
}

impl Disk {
    fn open(db: sled::Db, path: &Path) -> Result<Self, Error> {
        let log = path.join("db");
        // A second descriptor of sled's log: syncing any descriptor syncs the inode.
        let file = File::open(&log).map_err(|source| Error::Open { path: log, source })?;
        let disk = Self {
            db,
            file,
            path: path.to_owned(),
        };
        disk.sync_everything().map_err(|source| Error::Sync {
            path: path.to_owned(),
            source,
        })?;
        Ok(disk)
    }

    /// What a killed process wrote and did not sync is read back by the next one, which would show
    /// it as durable: so it is made durable first. The names of the files and of the folder that
    /// they are in must survive as well.
    fn sync_everything(&self) -> std::io::Result<()> {
        self.db.flush().map_err(std::io::Error::from)?;
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_file() {
                File::open(&path)?.sync_all()?;
            }
        }
        self.sync_blobs()?;
        let folders = self.path.ancestors().take(2);
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.db.flush()?;
        self.file
            .sync_data()
            .and_then(|()| self.sync_blobs())
            .map_err(|source| Error::Sync {
                path: self.path.clone(),
                source,
            })
    }

    /// sled puts pages that are too large into files that it does not sync. Values are kept too
    /// small for that; should one appear all the same, it is synced here.
    fn sync_blobs(&self) -> std::io::Result<()> {
        let blobs = self.path.join("blobs");
        let entries = match std::fs::read_dir(&blobs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut found = false;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                tracing::warn!(blob = %entry.path().display(), "the database made a blob file");
                match File::open(entry.path()) {
                    Ok(blob) => blob.sync_all()?,
                    // sled removes blobs by itself.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                found = true;
            }
        }
        if found {
            File::open(&blobs)?.sync_all()
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;

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
            let job = Job::Written {
                tree,
                number,
                on_durable,
            };
            jobs.send(job).unwrap();
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
        run(sync, &waiting, &standing);
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
            Job::Written {
                tree,
                number,
                on_durable: Box::new(move |result| outcomes.send((number, result)).unwrap()),
            }
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
        run(sync, &waiting, &standing);
        let done: Vec<_> = told.try_iter().map(|(number, _)| number).collect();
        assert_eq!((done, syncs.get()), (vec![1, 2], 1));
        assert_eq!(*tree.durable.borrow(), 2);
    }
}
