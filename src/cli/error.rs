//! Why a command failed, and the exit code that says so to scripts.

use crate::{config, container, sdk, telemetry};

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
    /// The container failed.
    #[error("run the container")]
    Container(#[source] container::Error),
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
            Self::Settings(_) | Self::Telemetry(telemetry::Error::Filter { .. }) => USAGE,
            _ => FAILURE,
        }
    }
}
