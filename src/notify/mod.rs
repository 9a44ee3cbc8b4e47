//! The notification hook: a program of the administrator's that is told of what can't wait.
//!
//! The program gets one JSON object on its standard input for each notice. It runs as the server's
//! user, one at a time, and has a bounded time; one that takes longer is ended with everything it
//! started. Notices wait in a bounded queue. What becomes of each is told to whoever gave it.
//!
//! Absent on purpose: tries. A notice whose program failed is not given again by itself; the town
//! records the failure and raises what nobody takes up again.

mod run;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::lifecycle::Lifecycle;

/// How long a run may take: enough for a mail or a web hook that is tried twice; while it runs the
/// others wait.
const RUN_TIME_MAX: Duration = Duration::from_secs(30);
/// Notices that may wait. At the longest run time that is half an hour's.
const WAITING_MAX: usize = 64;

/// Why a notice was not given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program can't be run.
    #[error("the notification program {} can't be run", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("the notification program failed ({status}): {said}")]
    Failed {
        /// Its exit status.
        status: String,
        /// The end of what it said on standard error.
        said: String,
    },
    /// It took too long and was ended.
    #[error("the notification program did not end within {seconds} s")]
    TimedOut {
        /// The bound.
        seconds: u64,
    },
    /// Too many notices wait.
    #[error("too many notifications wait")]
    Overloaded,
    /// No program is set.
    #[error("there is no notification program")]
    Absent,
    /// The server is stopping; the notice is still to be given.
    #[error("the server is stopping")]
    Stopping,
}

struct Notice {
    json: String,
    outcome: oneshot::Sender<Result<(), Error>>,
}

/// Gives notices to the program; cheap to clone.
#[derive(Clone, Debug)]
pub struct Notifier(Option<mpsc::Sender<Notice>>);

impl Notifier {
    /// Gives them to `program` until the lifecycle stops. Without a program every notice is refused.
    #[must_use]
    pub fn start(program: Option<PathBuf>, lifecycle: &Lifecycle) -> Self {
        let Some(program) = program else {
            return Self(None);
        };
        let (notices, waiting) = mpsc::channel(WAITING_MAX);
        let life = lifecycle.clone();
        lifecycle.spawn("notifier", async move {
            tokio::select! {
                () = give_all(program, waiting) => {}
                // A program under way is ended; its notice is given again after the restart.
                () = life.stopping() => {}
            }
        });
        Self(Some(notices))
    }

    /// Gives `json` to the program when its turn comes; resolves when it has ended.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn notify(&self, json: String) -> Result<(), Error> {
        let notices = self.0.as_ref().ok_or(Error::Absent)?;
        let (outcome, ended) = oneshot::channel();
        notices
            .try_send(Notice { json, outcome })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::Stopping,
            })?;
        ended.await.unwrap_or(Err(Error::Stopping))
    }
}

async fn give_all(program: PathBuf, mut waiting: mpsc::Receiver<Notice>) {
    while let Some(Notice { json, outcome }) = waiting.recv().await {
        let given = run::run(&program, json, RUN_TIME_MAX).await;
        // Whoever asked may have gone away.
        let _ = outcome.send(given);
    }
}
