//! What the reconciler saw and decided, written down so that it can be replayed.
//!
//! Off unless the setting `reconcile_record` names a file. Each line is one look at one town and
//! stands for itself, so a lost line spoils no other. The actor never waits: it hands its lines to
//! a task, and if that is too slow, lines are left out and counted.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;

use crate::container::protocol::text;
use crate::lifecycle::Lifecycle;
use crate::model::{Timestamp, TownId};

use super::reconcile::{Plan, View};

/// Bytes of the file; then it is kept once under the name with `.1` added, and a new one begun.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Lines that wait for the disk: all towns of a server look at the same time at most.
const LINES_MAX: usize = 1024;

/// One look: what was seen, when, and what followed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Look {
    #[serde(with = "text")]
    pub(super) town: TownId,
    #[serde(with = "text")]
    pub(super) now: Timestamp,
    pub(super) view: View,
    pub(super) plan: Plan,
}

/// Takes the lines of all towns; cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder(mpsc::Sender<String>);

/// One town's part in it.
pub(super) struct Record {
    recorder: Recorder,
    town: TownId,
    /// What was seen at the last look.
    last: Option<View>,
    left_out: u64,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Writes to the end of the file at `path` until the lifecycle stops.
    pub(super) fn start(path: PathBuf, lifecycle: &Lifecycle) -> Self {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let life = lifecycle.clone();
        lifecycle.spawn("reconcile record", async move {
            if let Err(error) = write_all(&path, waiting, &life).await {
                tracing::error!(path = %path.display(), %error, "the reconciler's record ends here");
            }
        });
        Self(lines)
    }

    pub(super) fn of(&self, town: TownId) -> Record {
        Record {
            recorder: self.clone(),
            town,
            last: None,
            left_out: 0,
        }
    }
}

impl Record {
    /// Writes a look down if something followed from it or was new.
    pub(super) fn note(&mut self, now: Timestamp, view: View, plan: &Plan) {
        if plan.actions.is_empty() && self.last.as_ref() == Some(&view) {
            return;
        }
        let look = Look {
            town: self.town,
            now,
            view,
            plan: plan.clone(),
        };
        let line = serde_json::to_string(&look).map(|line| line + "\n");
        let written = line.is_ok_and(|line| self.recorder.0.try_send(line).is_ok());
        if !written {
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                tracing::warn!(town = %self.town, left_out = self.left_out, "looks are missing in the reconciler's record");
            }
        }
        self.last = Some(look.view);
    }
}

async fn write_all(
    path: &Path,
    mut waiting: mpsc::Receiver<String>,
    life: &Lifecycle,
) -> std::io::Result<()> {
    let mut file = open(path).await?;
    let mut bytes = file.get_ref().metadata().await?.len();
    loop {
        let line = tokio::select! {
            line = waiting.recv() => line,
            // What waits already is still written.
            () = life.stopping() => waiting.try_recv().ok(),
        };
        let Some(line) = line else {
            return file.flush().await;
        };
        file.write_all(line.as_bytes()).await?;
        bytes += line.len() as u64;
        if waiting.is_empty() {
            file.flush().await?;
        }
        if bytes >= FILE_BYTES_MAX {
            file.flush().await?;
            tokio::fs::rename(path, older(path)).await?;
            file = open(path).await?;
            bytes = 0;
        }
    }
}

async fn open(path: &Path) -> std::io::Result<BufWriter<File>> {
    let file = tokio::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .await?;
    Ok(BufWriter::new(file))
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
impl Recorder {
    /// One whose lines a test takes itself.
    pub(super) fn held() -> (Self, mpsc::Receiver<String>) {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        (Self(lines), waiting)
    }
}
