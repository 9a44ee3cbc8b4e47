//! The life of one agent server: started, ready, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::lifecycle::Lifecycle;

use super::sessions::unfinished;
use super::{AgentServerKind, Client, Error};

/// How long an agent server may take to listen. Kilo needs up to 10 s on a small machine.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What to start and where.
#[derive(Clone, Debug)]
pub struct AgentServerOptions {
    /// Which agent server.
    pub kind: AgentServerKind,
    /// The program; `None`: `opencode` or `kilo` on `PATH`. The rehearsal needs none.
    pub program: Option<PathBuf>,
    /// The gastownd program, whose hidden subcommand `guard` watches over the agent program.
    pub guard: PathBuf,
    /// A private home folder, made with mode 0700.
    pub home: PathBuf,
    /// The working directory of the process.
    pub directory: PathBuf,
    /// The agent server's whole config.
    pub config: serde_json::Value,
    /// Added to a minimal environment.
    pub env: BTreeMap<String, String>,
    /// How long it may take to be ready, usually [`READY_TIMEOUT`].
    pub ready_timeout: Duration,
}

/// How an agent server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerExit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The end of what it printed.
    pub output: String,
}

impl fmt::Display for ServerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(signal)) => write!(f, "it was ended by signal {signal}")?,
            (Some(code), None) => write!(f, "it ended with code {code}")?,
            (None, None) => f.write_str("it ended")?,
        }
        if self.output.is_empty() {
            f.write_str(" and had printed nothing")
        } else {
            write!(f, "; its last output: {}", self.output)
        }
    }
}

/// A running agent server. Dropping it ends the server.
#[derive(Debug)]
pub struct AgentServer {
    client: Client,
}

/// Starts an agent server and waits until it is ready.
pub async fn create_agent_server(
    options: AgentServerOptions,
    lifecycle: &Lifecycle,
) -> Result<AgentServer, Error> {
    let _ = (options, lifecycle);
    unfinished()
}

impl AgentServer {
    /// The client of this server.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The process that stands for the server (its guard), if it is a process.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        None
    }

    /// Resolves when the server has ended, for any number of callers.
    pub async fn exited(&self) -> ServerExit {
        ServerExit {
            code: None,
            signal: None,
            output: String::new(),
        }
    }

    /// Asks the server to end, and ends it by force after `grace`. Idempotent; afterwards nothing
    /// of it runs.
    pub async fn stop(&self, grace: Duration) {
        let _ = grace;
    }
}
