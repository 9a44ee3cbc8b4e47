//! The files that batches become durable in: the journal and the engine's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Error, trees};
use super::journal::{Found, Journal};
use super::{Ahead, Medium};

/// Bytes of batches that one record of the journal holds, so that it is put together in bounded
/// memory; a larger batch has a record of its own.
const RECORD_BYTES_MAX: usize = 4 << 20;

/// After so many bytes in the journal the engine's file is synced as well, though nobody waits for
/// that: sled uses space again when what was there has been written elsewhere, and takes that for
/// durable too soon. It is sled's own unit of space.
const UNSYNCED_BYTES_MAX: usize = 512 << 10;

/// What has to be on disk before anybody is told.
pub(super) struct Disk {
    db: sled::Db,
    file: File,
    journal: Journal,
    /// Bytes that went to the journal since the engine's file was synced.
    unsynced: usize,
    path: PathBuf,
}

impl Disk {
    /// Carries out what the journal holds, and makes everything durable that a killed process left.
    pub(super) fn open(db: sled::Db, path: &Path) -> Result<Self, Error> {
        let log = path.join("db");
        // A second descriptor of sled's log: syncing any descriptor syncs the inode.
        let file = File::open(&log).map_err(|source| Error::Open { path: log, source })?;
        let opening = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let mut journal = Journal::open(path).map_err(opening)?;
        while let Some(batches) = journal.read().map_err(opening)? {
            for Found { tree, writes } in batches {
                let tree = db.open_tree(tree)?;
                trees::carry_out(&tree, writes)?;
            }
        }
        let mut disk = Self {
            db,
            file,
            journal,
            unsynced: 0,
            path: path.to_owned(),
        };
        let made = disk.sync_everything().and_then(|()| {
            if disk.journal.is_new() {
                return Ok(());
            }
            disk.journal.begin_anew()
        });
        made.map_err(|source| disk.unsyncable(source))?;
        Ok(disk)
    }

    fn unsyncable(&self, source: io::Error) -> Error {
        Error::Sync {
            path: self.path.clone(),
            source,
        }
    }

    /// What a killed process wrote and did not sync is read back by the next one, which would show
    /// it as durable: so it is made durable first. The names of the files and of the folder that
    /// they are in must survive as well.
    fn sync_everything(&self) -> io::Result<()> {
        self.db.flush().map_err(io::Error::from)?;
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

    /// sled puts pages that are too large into files that it does not sync. Values are kept too
    /// small for that; should one appear all the same, it is synced here.
    fn sync_blobs(&self) -> io::Result<()> {
        let blobs = self.path.join("blobs");
        let entries = match std::fs::read_dir(&blobs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
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

impl Medium for Disk {
    fn sync_engine(&mut self) -> Result<(), Error> {
        self.db.flush()?;
        self.unsynced = 0;
        self.file
            .sync_data()
            .and_then(|()| self.sync_blobs())
            .map_err(|source| self.unsyncable(source))
    }

    fn empty_journal(&mut self) -> Result<(), Error> {
        self.sync_engine()?;
        if self.journal.is_empty() {
            return Ok(());
        }
        self.journal
            .begin_anew()
            .map_err(|source| self.unsyncable(source))
    }

    fn write_ahead(&mut self, batches: &[Ahead]) -> Result<usize, Error> {
        if self.journal.is_full() {
            self.empty_journal()?;
        }
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            self.unsynced = 0;
            self.file
                .sync_data()
                .map_err(|source| self.unsyncable(source))?;
        }
        let mut count = 0;
        for Ahead { tree, batch, .. } in batches {
            if count > 0 && self.journal.record_len() + batch.byte_len() > RECORD_BYTES_MAX {
                break;
            }
            self.journal.push(tree.name(), &batch.writes);
            count += 1;
        }
        self.unsynced += self.journal.record_len();
        self.journal
            .write()
            .map_err(|source| self.unsyncable(source))?;
        Ok(count)
    }
}
