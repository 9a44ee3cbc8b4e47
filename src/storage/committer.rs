//! Group commit: one thread flushes for everybody.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::Error;
use super::trees::TreeState;

/// Called from the committer's thread once a batch is durable, or can't become so.
pub type OnDurable = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The most waiters released by one flush, so that one round's work is bounded.
const GROUP_LEN_MAX: usize = 4096;

/// Hands applied batches to the committing thread. The queue needs no bound of its own: a tree has
/// at most one batch per caller in it, and callers are bounded where they enter (requests, logs).
#[derive(Clone, Debug)]
pub(super) struct Committer {
    jobs: Sender<Job>,
    poison: Arc<watch::Sender<Option<String>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Job {
    Written {
        tree: Arc<TreeState>,
        number: u64,
        on_durable: OnDurable,
    },
    Stop,
}

impl Committer {
    pub(super) fn start(db: sled::Db, path: &Path) -> Result<Self, Error> {
        let disk = Disk::open(db, path)?;
        let (jobs, waiting) = mpsc::channel();
        let poison = Arc::new(watch::Sender::new(None));
        let committing = poison.clone();
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run(&disk, &waiting, &committing))
            .map_err(|source| Error::Open {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            jobs,
            poison,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    pub(super) fn queue(
        &self,
        tree: Arc<TreeState>,
        number: u64,
        on_durable: OnDurable,
    ) -> Result<(), Error> {
        self.jobs
            .send(Job::Written {
                tree,
                number,
                on_durable,
            })
            .map_err(|_| {
                self.poison("the committer has ended");
                Error::Poisoned {
                    reason: "the committer has ended".to_owned(),
                }
            })
    }

    /// Refuses all further writes; the first reason is kept.
    pub(super) fn poison(&self, reason: &str) {
        poison(&self.poison, reason);
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match &*self.poison.borrow() {
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Resolves when writes are refused from now on.
    pub(super) async fn poisoned(&self) {
        let mut poison = self.poison.subscribe();
        let _ = poison.wait_for(Option::is_some).await;
    }

    /// Makes durable what is queued, then ends the thread.
    pub(super) fn stop(&self) {
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

fn poison(slot: &watch::Sender<Option<String>>, reason: &str) {
    slot.send_if_modified(|slot| {
        let first = slot.is_none();
        if first {
            tracing::error!(reason, "the database stops taking writes");
            *slot = Some(reason.to_owned());
        }
        first
    });
}

fn run(disk: &Disk, waiting: &Receiver<Job>, poison_slot: &watch::Sender<Option<String>>) {
    let mut group = Vec::new();
    let mut stopping = false;
    while !stopping {
        let Ok(first) = waiting.recv() else { return };
        for job in std::iter::once(first).chain(waiting.try_iter()) {
            match job {
                Job::Written {
                    tree,
                    number,
                    on_durable,
                } => group.push((tree, number, on_durable)),
                Job::Stop => stopping = true,
            }
            if stopping || group.len() >= GROUP_LEN_MAX {
                break;
            }
        }
        let outcome = disk.sync();
        if let Err(error) = &outcome {
            poison(poison_slot, &error.to_string());
        }
        for (tree, number, on_durable) in group.drain(..) {
            match &outcome {
                Ok(()) => {
                    tree.durable.send_replace(number);
                    on_durable(Ok(()));
                }
                Err(error) => on_durable(Err(Error::Poisoned {
                    reason: error.to_string(),
                })),
            }
        }
    }
}

/// What has to be on disk before anybody is told.
struct Disk {
    db: sled::Db,
    file: File,
    path: PathBuf,
}

impl Disk {
    fn open(db: sled::Db, path: &Path) -> Result<Self, Error> {
        let opening = |path: PathBuf| move |source| Error::Open { path, source };
        let log = path.join("db");
        // A second descriptor of sled's log: syncing any descriptor syncs the inode.
        let file = File::open(&log).map_err(opening(log))?;
        // The files' names must survive as well.
        File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(opening(path.to_owned()))?;
        Ok(Self {
            db,
            file,
            path: path.to_owned(),
        })
    }

    fn sync(&self) -> Result<(), Error> {
        self.db.flush()?;
        self.file
            .sync_data()
            .and_then(|()| self.sync_blobs())
            .map_err(|source| Error::Open {
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
