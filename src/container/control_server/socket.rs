//! Unix sockets that only this user can open, and that are never taken from a living process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

use crate::container::Error;

/// A bound socket. Its files go when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket; the system lets go of it however the process ends.
    _lock: File,
}

impl Socket {
    /// Binds `path`. A socket file that was left behind is replaced; one whose owner lives is not.
    pub(super) fn bind(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Socket {
            path: path.to_owned(),
            source,
        };
        let lock = lock(path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        // The folder is private already, so nobody slips in before this.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two processes lock two different files.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes the lock beside the socket: whoever has it owns the socket.
fn lock(path: &Path) -> Result<File, Error> {
    let fail = |source| Error::Socket {
        path: path.to_owned(),
        source,
    };
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(beside(path, "lock"))
        .map_err(fail)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::SocketInUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(fail(errno.into())),
    }
}

/// The path with one more ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
