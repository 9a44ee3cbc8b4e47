//! What must not be left behind, however the program ends: towns on a server, processes, folders.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::api::{Address, Api};
use super::error::{During, Result};

static LEFT: Mutex<Left> = Mutex::new(Left {
    towns: Vec::new(),
    children: Vec::new(),
    folders: Vec::new(),
});

struct Left {
    towns: Vec<(Address, String)>,
    children: Vec<u32>,
    folders: Vec<PathBuf>,
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This town is to be deleted at the end.
pub(crate) fn town(address: &Address, path: &str) {
    left().towns.push((address.clone(), path.to_owned()));
}

/// This process is to be ended at the end.
pub(crate) fn child(pid: u32) {
    left().children.push(pid);
}

/// This process has been waited for.
pub(crate) fn child_ended(pid: u32) {
    left().children.retain(|other| *other != pid);
}

/// A town that was made on a server; goes with this value.
#[derive(Debug)]
pub(crate) struct TownGuard(pub(crate) String);

impl Drop for TownGuard {
    fn drop(&mut self) {
        let mut left = left();
        let index = left.towns.iter().position(|(_, path)| *path == self.0);
        let Some((address, path)) = index.map(|index| left.towns.remove(index)) else {
            return;
        };
        drop(left);
        delete(&address, &path);
    }
}

/// A folder that goes with this value.
#[derive(Debug)]
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// A new one, in `parent` or where temporary files are.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Short: the path of a container's socket has a hundred bytes at most.
        builder.prefix("gtb");
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let folder = folder.during("make a temporary folder")?;
        left().folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        left().folders.retain(|other| other != self.0.path());
    }
}

fn delete(address: &Address, path: &str) {
    // The server may be gone already, and its town with it.
    if let Ok(mut api) = Api::connect(address) {
        let _ = api.call("DELETE", path, &Value::Null);
    }
}

/// Whether a signal came: then the program ends when everything is cleaned up, and not before.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Does not come back if a signal has come.
pub(crate) fn wait_if_stopping() {
    while STOPPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Cleans up at SIGINT and SIGTERM and ends the program; does nothing until then.
pub(crate) fn at_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("catch signals")?;
    let spawned = std::thread::Builder::new().name("signals".to_owned());
    spawned
        .spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return std::future::pending().await;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            STOPPING.store(true, Ordering::SeqCst);
            all();
            #[expect(
                clippy::disallowed_methods,
                reason = "the other threads are in the middle of something that nobody waits for"
            )]
            std::process::exit(130);
        })
        .during("catch signals")
        .map(drop)
}

fn all() {
    let (towns, children, folders) = {
        let mut left = left();
        (
            std::mem::take(&mut left.towns),
            std::mem::take(&mut left.children),
            std::mem::take(&mut left.folders),
        )
    };
    for (address, path) in towns {
        delete(&address, &path);
    }
    for pid in children {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
            // It must be gone before its folder is, or it would go on writing there.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
}
