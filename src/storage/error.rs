//! What can go wrong below a row.

use std::io;
use std::path::PathBuf;

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data folder open.
    #[error("data folder {} is in use by another gastownd{}", path.display(), holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// The process that holds it, if it left its id.
        holder: Option<String>,
    },
    /// The database was written by something else.
    #[error("{} holds something else than gastownd's database", path.display())]
    Foreign {
        /// The database's folder.
        path: PathBuf,
    },
    /// The database was written by a later release.
    #[error("database {} has format {found}, this gastownd reads up to {supported}: install the newer release again", path.display())]
    Newer {
        /// The database's folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this program knows.
        supported: u32,
    },
    /// The folder can't be made or opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was written can't be made durable.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// What was to be synced.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The tree was removed, with everything in it.
    #[error("tree {tree} was removed")]
    Removed {
        /// Its name.
        tree: String,
    },
    /// sled failed.
    #[error("database operation failed")]
    Engine(#[from] sled::Error),
    /// A stored row can't be read.
    #[error("stored {what} is damaged: {detail}")]
    Damaged {
        /// What kind of row.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// There is too little room on the disk. Nothing was written; it is worth another try once
    /// there is more.
    #[error("the disk of {} is full: {free} bytes are free and {reserve} are kept in reserve", path.display())]
    Full {
        /// The database's folder.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that are kept free.
        reserve: u64,
    },
    /// An earlier write failed; nothing is written until the next start.
    #[error("the database stopped taking writes: {reason}")]
    Poisoned {
        /// The first failure's text.
        reason: String,
    },
}

impl Error {
    /// The same once more, for another who waits for the same write.
    #[must_use]
    pub fn repeated(&self) -> Self {
        match self {
            Self::Full {
                path,
                free,
                reserve,
            } => Self::Full {
                path: path.clone(),
                free: *free,
                reserve: *reserve,
            },
            Self::Removed { tree } => Self::Removed { tree: tree.clone() },
            Self::Poisoned { reason } => Self::Poisoned {
                reason: reason.clone(),
            },
            other => Self::Poisoned {
                reason: crate::telemetry::chain(other),
            },
        }
    }
}
