//! Room on the disk: writes are refused before the engine meets a full one.
//!
//! sled can't go on after a write that failed: its error stays for the life of the process, and its
//! pages in memory are ahead of the file. So it is never let to the end of the disk. A reserve is
//! kept free; below it writes are refused with [`Error::Full`], reads go on, and the first write
//! after there is room again is taken. What frees space may use half of the reserve.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Error;

/// Bytes that may be written between two looks at the disk. Far below any useful reserve, so that
/// what others write meanwhile does not matter.
const STRIDE: u64 = 1 << 20;
/// sled's file grows by more than what is written: pages are written anew and segments are filled
/// in part. Measured 1.6 after a bulk load; a single small row costs more.
const GROWTH: u64 = 4;
/// What a row costs besides its bytes.
const ROW_BYTES: u64 = 128;

/// How much may be written; shared by all trees.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    reserve: u64,
    /// Bytes that may still be written before the disk is looked at again.
    left: AtomicI64,
    full: AtomicBool,
    looking: Mutex<()>,
}

impl Space {
    /// Keeps `reserve` bytes free on the disk of `path`; zero refuses nothing.
    pub(super) fn new(path: &Path, reserve: u64) -> Self {
        Self {
            path: path.to_owned(),
            reserve,
            left: AtomicI64::new(0),
            full: AtomicBool::new(false),
            looking: Mutex::default(),
        }
    }

    /// The database's folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes room for a batch of so many rows and bytes.
    ///
    /// # Errors
    /// [`Error::Full`] if there is none.
    pub(super) fn take(&self, rows: usize, bytes: usize, frees: bool) -> Result<(), Error> {
        if self.reserve == 0 || rows == 0 {
            return Ok(());
        }
        let cost = bytes as u64 * GROWTH + rows as u64 * ROW_BYTES;
        if frees {
            return self.check(self.reserve / 2 + cost);
        }
        let cost_signed = i64::try_from(cost).unwrap_or(i64::MAX);
        let before = self.left.fetch_sub(cost_signed, Ordering::Relaxed);
        if before >= cost_signed {
            return Ok(());
        }
        self.look(cost)
    }

    /// Whether a write would be taken now.
    ///
    /// # Errors
    /// [`Error::Full`] if not.
    pub(super) fn has_room(&self) -> Result<(), Error> {
        if self.reserve == 0 {
            return Ok(());
        }
        self.look(0)
    }

    fn look(&self, cost: u64) -> Result<(), Error> {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.check(self.reserve + cost);
        let left = if outcome.is_ok() { STRIDE } else { 0 };
        self.left
            .store(i64::try_from(left).unwrap_or(0), Ordering::Relaxed);
        let full = outcome.is_err();
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(path = %self.path.display(), reserve = self.reserve, "the disk is full: writes are refused until there is room");
            } else {
                tracing::info!("there is room on the disk again: writes are taken");
            }
        }
        outcome
    }

    fn check(&self, wanted: u64) -> Result<(), Error> {
        match free_bytes(&self.path) {
            Ok(free) if free < wanted => Err(Error::Full {
                path: self.path.clone(),
                free,
                reserve: self.reserve,
            }),
            Ok(_) => Ok(()),
            Err(error) => {
                // Not knowing is no reason to stand still; a real failure comes from the engine.
                tracing::warn!(%error, "the free space of the disk can't be read");
                Ok(())
            }
        }
    }
}

/// Bytes that this process may still write on the disk of `path`.
pub(super) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A file of bytes that mean nothing. It is let go of when there is too little room to open the
/// database, which writes a little: so a server on a full disk comes up for reads.
pub(super) mod ballast {
    use std::path::Path;

    use rustix::fs::FallocateFlags;

    use super::free_bytes;

    const FILE: &str = "gastownd.ballast";
    /// Opening writes a snapshot of the page table: some megabytes for millions of events.
    const BYTES_MAX: u64 = 16 << 20;

    fn bytes(reserve: u64) -> u64 {
        (reserve / 4).min(BYTES_MAX)
    }

    /// Before opening: lets go of it if there is less room than it takes itself.
    pub(in super::super) fn release(data_dir: &Path, reserve: u64) {
        let path = data_dir.join(FILE);
        let scarce = free_bytes(data_dir).is_ok_and(|free| free < bytes(reserve));
        if scarce && std::fs::remove_file(&path).is_ok() {
            tracing::warn!(path = %path.display(), "the disk is full: the ballast was let go of, so that the database can be opened");
        }
    }

    /// After opening: takes the room back if there is plenty.
    pub(in super::super) fn restore(data_dir: &Path, reserve: u64) {
        let (path, bytes) = (data_dir.join(FILE), bytes(reserve));
        let whole = std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes);
        let plenty = free_bytes(data_dir).is_ok_and(|free| free > reserve + bytes);
        if bytes == 0 || whole || !plenty {
            return;
        }
        let made = std::fs::File::create(&path).and_then(|file| {
            Ok(rustix::fs::fallocate(
                file,
                FallocateFlags::empty(),
                0,
                bytes,
            )?)
        });
        if let Err(error) = made {
            // Not every file system can; the reserve is what counts.
            tracing::debug!(%error, "no ballast");
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_reserve_only_what_frees_space_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let free = free_bytes(dir.path()).unwrap();
        let none = Space::new(dir.path(), 0);
        none.take(1, usize::MAX / 8, false).unwrap();
        let plenty = Space::new(dir.path(), 1);
        plenty.take(1, 1000, false).unwrap();
        // More than is free now, so half of it is less.
        let short = Space::new(dir.path(), free + free / 2);
        let refused = short.take(1, 1000, false).unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
        assert!(short.has_room().is_err());
        short.take(1, 1000, true).unwrap();
        short.take(0, 0, false).unwrap();
    }

    #[test]
    fn the_disk_is_looked_at_again_after_a_stride() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = Space::new(dir.path(), 1);
        space.take(1, 1000, false).unwrap();
        space.reserve = u64::MAX / 2;
        let step = 1000;
        let taken = (0..10_000)
            .take_while(|_| space.take(1, step, false).is_ok())
            .count() as u64;
        assert!(taken > 0, "within the stride nothing is asked");
        assert!(taken * step as u64 * GROWTH <= STRIDE);
    }
}
