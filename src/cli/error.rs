//! Why a command failed, and the exit code that says so to scripts.

use crate::{config, container, sdk, server, telemetry, town};

/// Every way a command can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments can't be understood, or ask for help or the version.
    #[error("understand the arguments")]
    Arguments(#[source] clap::Error),
    /// The settings can't be used.
    #[error(transparent)]
    Settings(#[from] config::Error),
    /// Logging can't begin.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The asynchronous runtime can't be started.
    #[error("start the runtime")]
    Runtime {
        /// What the system said.
        source: std::io::Error,
    },
    /// This program's own path is not known.
    #[error("find this program's own path")]
    OwnPath {
        /// What the system said.
        source: std::io::Error,
    },
    /// stdout is closed or full.
    #[error("print to stdout")]
    Print {
        /// What the system said.
        source: std::io::Error,
    },
    /// The server could not start, or had to end.
    #[error("serve")]
    Server(#[from] server::Error),
    /// The demo could not be set up.
    #[error("set up the demo")]
    DemoTown(#[source] town::Error),
    /// The demo's repository could not be made.
    #[error("make the demo's repository")]
    DemoRepository(#[source] container::Error),
    /// The demo's address is reachable from elsewhere.
    #[error(
        "run the demo on {address}: it asks nobody to log in, so it needs a loopback address like 127.0.0.1:0"
    )]
    DemoAddress {
        /// As given.
        address: std::net::SocketAddr,
    },
    /// A bead of the demo failed.
    #[error("finish the demo: {failed} of its beads failed; the page says why")]
    DemoFailed {
        /// How many.
        failed: usize,
    },
    /// A recorded run can't be replayed.
    #[error("replay {}", path.display())]
    Replay {
        /// The record.
        path: std::path::PathBuf,
        /// Why.
        source: town::ReplayError,
    },
    /// A recorded run came to something else.
    #[error("come to the same: {different} looks of the record differ")]
    ReplayDiffers {
        /// How many.
        different: u64,
    },
    /// A temporary folder can't be made or removed.
    #[error("use a temporary folder")]
    Temporary {
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals can't be listened for.
    #[error("listen for signals")]
    Signals {
        /// What the system said.
        source: std::io::Error,
    },
    /// The container failed.
    #[error("run the container")]
    Container(#[source] container::Error),
    /// The container's memory can't be shut to its agents.
    #[error("shut the container's memory to its agents")]
    Shut(#[source] rustix::io::Errno),
    /// The guard failed.
    #[error("guard a program")]
    Guard(#[from] sdk::Error),
    /// The credential helper failed.
    #[error("answer git's question for credentials")]
    Credential(#[source] container::Error),
}

/// The exit code for arguments or settings that a person must correct.
const USAGE: u8 = 2;
/// The exit code for everything else.
const FAILURE: u8 = 1;

impl Error {
    /// What the process should end with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(asked) => u8::try_from(asked.exit_code()).unwrap_or(USAGE),
            Self::Settings(_)
            | Self::DemoAddress { .. }
            | Self::Telemetry(telemetry::Error::Filter { .. }) => USAGE,
            _ => FAILURE,
        }
    }
}
