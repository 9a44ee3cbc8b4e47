//! Opening a data folder's database: its lock, its format, its trees.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::committer::Committer;
use super::keys::FormatKey;
use super::layout::Format;
use super::space::{Space, ballast};
use super::trees::{Tree, TreeName};
use super::{Batch, Error};

/// The newest format this program reads and the one it writes. Opening an older database makes it
/// one of this format: from then on its rows may be of a layout that older programs don't know.
/// - 1: the first.
/// - 2: rows of layout 2, and indexes that are made when a town is opened.
/// - 3 and 4: rows of the layouts of these numbers.
/// - 5: the newest events may be in the journal only.
const FORMAT_VERSION: u32 = 5;
const PROGRAM: &str = "gastownd";
const LOCK_FILE: &str = "gastownd.lock";
const DATABASE_DIR: &str = "database";

/// How to open a database.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Bytes of pages kept in memory.
    pub cache_bytes: u64,
}

/// The open database of one data folder; cheap to clone. While it is open no other process can
/// open the folder.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: sled::Db,
    committer: Committer,
    trees: Mutex<HashMap<TreeName, Tree>>,
    // Held for its lock.
    _lock: File,
}

impl Database {
    /// Opens the database in `data_dir`, making it if there is none.
    ///
    /// # Errors
    /// If the folder is in use, not ours, too new, or can't be read.
    pub fn open(data_dir: &Path, options: OpenOptions) -> Result<Self, Error> {
        Self::open_reserving(data_dir, options, 0)
    }

    /// As [`Database::open`]; writes are refused while less than `reserve` bytes are free on the
    /// disk.
    ///
    /// # Errors
    /// If the folder is in use, not ours, too new, or can't be read.
    pub fn open_reserving(
        data_dir: &Path,
        options: OpenOptions,
        reserve: u64,
    ) -> Result<Self, Error> {
        // First, because to lock is to write as well.
        ballast::release(data_dir, reserve);
        let lock = lock(data_dir)?;
        let path = data_dir.join(DATABASE_DIR);
        // sled would write over a file that it did not make; its own settings are there first.
        if path.join("db").exists() && !path.join("conf").exists() {
            return Err(Error::Foreign { path });
        }
        let db = sled::Config::new()
            .path(&path)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None)
            .open()?;
        let space = Space::new(&path, reserve);
        let committer = Committer::start(db.clone(), &path, space)?;
        let database = Self(Arc::new(Inner {
            db,
            committer,
            trees: Mutex::default(),
            _lock: lock,
        }));
        database.check_format(&path)?;
        ballast::restore(data_dir, reserve);
        Ok(database)
    }

    fn check_format(&self, path: &Path) -> Result<(), Error> {
        let foreign = || Error::Foreign {
            path: path.to_owned(),
        };
        let names = self.0.db.tree_names();
        let meta_exists = names.iter().any(|name| name.as_ref() == b"meta");
        let default_is_used = !self.0.db.is_empty();
        if !meta_exists {
            // sled always has its default tree; anything else was made by somebody.
            if default_is_used || names.len() > 1 {
                return Err(foreign());
            }
            return self.write_format();
        }
        let meta = self.tree(TreeName::Meta)?;
        match meta.get(&FormatKey {}) {
            Ok(Some(format)) if format.program != PROGRAM => Err(foreign()),
            Ok(Some(format)) if format.version > FORMAT_VERSION => Err(Error::Newer {
                path: path.to_owned(),
                found: format.version,
                supported: FORMAT_VERSION,
            }),
            Ok(Some(format)) if format.version < FORMAT_VERSION => {
                tracing::info!(
                    from = format.version,
                    to = FORMAT_VERSION,
                    "the database is of an older release; older releases can't open it any more"
                );
                self.write_format()
            }
            Ok(Some(_)) => Ok(()),
            // A crash between making the tree and its first row.
            Ok(None)
                if names.len() <= 2 && !default_is_used && self.is_empty(TreeName::Meta)? =>
            {
                self.write_format()
            }
            Ok(None) | Err(Error::Damaged { .. }) => Err(foreign()),
            Err(error) => Err(error),
        }
    }

    fn write_format(&self) -> Result<(), Error> {
        let mut batch = Batch::new();
        let format = Format {
            program: PROGRAM.to_owned(),
            version: FORMAT_VERSION,
        };
        batch.put(&FormatKey {}, &format);
        let (done, outcome) = std::sync::mpsc::channel();
        self.tree(TreeName::Meta)?.commit(
            batch,
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        )?;
        outcome.recv().unwrap_or(Err(Error::Poisoned {
            reason: "the committer has ended".to_owned(),
        }))
    }

    /// The tree of this name, made if it does not exist.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn tree(&self, name: TreeName) -> Result<Tree, Error> {
        let mut trees = self.trees_lock();
        if let Some(tree) = trees.get(&name) {
            return Ok(tree.clone());
        }
        let tree = Tree::new(
            self.0.db.open_tree(name.to_string().as_bytes())?,
            name.order(),
            self.0.committer.clone(),
        );
        trees.insert(name, tree.clone());
        Ok(tree)
    }

    /// Whether a tree of this name exists; asking does not make it.
    #[must_use]
    pub fn has_tree(&self, name: TreeName) -> bool {
        let name = name.to_string();
        self.0
            .db
            .tree_names()
            .iter()
            .any(|known| known.as_ref() == name.as_bytes())
    }

    /// The names of all trees.
    #[must_use]
    pub fn trees(&self) -> Vec<TreeName> {
        self.0
            .db
            .tree_names()
            .iter()
            .filter_map(|name| TreeName::parse(name))
            .collect()
    }

    fn is_empty(&self, name: TreeName) -> Result<bool, Error> {
        Ok(self.0.db.open_tree(name.to_string().as_bytes())?.is_empty())
    }

    /// Removes a tree with everything in it; its space is used again. Who still holds it can't
    /// write to it any more. It may be there again after a crash before this returns: what says
    /// that it is not wanted must be durable before. It takes time in proportion to the tree's size,
    /// so it is nothing for a runtime's thread; nobody may open a tree of this name meanwhile.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn drop_tree(&self, name: TreeName) -> Result<(), Error> {
        let tree = self.trees_lock().remove(&name);
        if let Some(tree) = tree {
            tree.retire();
        }
        self.0.db.drop_tree(name.to_string().as_bytes())?;
        // What the journal has of it would make it anew at the next start.
        self.0.committer.empty_journal()
    }

    /// Forgets a tree that nobody holds any more; it is opened again when it is asked for.
    pub fn let_go(&self, name: TreeName) {
        let mut trees = self.trees_lock();
        if trees.get(&name).is_some_and(Tree::is_idle) {
            trees.remove(&name);
        }
    }

    fn trees_lock(&self) -> MutexGuard<'_, HashMap<TreeName, Tree>> {
        self.0.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable and ends the committer. The lock is released with the last clone.
    pub fn close(&self) {
        self.0.committer.stop();
    }

    /// Whether writes are taken.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable().is_ok()
    }

    /// Why writes are not taken, if they are not.
    ///
    /// # Errors
    /// [`Error::Full`] while there is no room, [`Error::Poisoned`] for ever after a failed write.
    pub fn writable(&self) -> Result<(), Error> {
        self.0.committer.check()?;
        self.0.committer.space().has_room()
    }

    /// Bytes of the database on disk.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn size_on_disk(&self) -> Result<u64, Error> {
        Ok(self.0.db.size_on_disk()? + self.0.committer.journal_size())
    }

    /// Resolves when the database has stopped taking writes after a failure.
    pub async fn poisoned(&self) {
        self.0.committer.poisoned().await;
    }
}

fn lock(data_dir: &Path) -> Result<File, Error> {
    let opening = |path: &Path| {
        let path: PathBuf = path.to_owned();
        move |source| Error::Open { path, source }
    };
    std::fs::create_dir_all(data_dir).map_err(opening(data_dir))?;
    let path = data_dir.join(LOCK_FILE);
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(opening(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = Some(holder.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(Error::InUse {
                path: data_dir.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(Error::Open { path, source }),
    }
    // The id is only for the message above; the lock is what counts.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(opening(&path))?;
    Ok(file)
}

#[cfg(test)]
impl Database {
    /// Opens the database of a test, again and again for a while: between another test's fork and
    /// exec its child holds every descriptor of this process, and with them a closed database's
    /// locks.
    pub(crate) fn open_in_test(dir: &Path) -> Self {
        let options = OpenOptions {
            cache_bytes: 8 << 20,
        };
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match Self::open(dir, options) {
                Ok(database) => return database,
                Err(error) if is_locked(&error) && std::time::Instant::now() < limit => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[cfg(test)]
fn is_locked(error: &Error) -> bool {
    matches!(error, Error::InUse { .. }) || format!("{error:?}").contains("could not acquire lock")
}

#[cfg(test)]
mod tests;
