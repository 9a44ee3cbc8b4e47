//! What can go wrong in the container room, by what one can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::ExitKind;

/// Why something in the container could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A second container process for the same town.
    #[error("another container process answers on {}", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be opened.
    #[error("socket {} can't be opened", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("address {address} can't be listened on")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A folder or file of the workspace can't be made, read or removed.
    #[error("workspace path {} can't be used", path.display())]
    Workspace {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program that starts a container can't be run.
    #[error("{} can't be started", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the server will show can't be read.
    #[error("token file {} can't be read", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The town's ssh key can't be used.
    #[error("the ssh key can't be used: {text}")]
    SshKey {
        /// What ssh's own programs say.
        text: String,
    },
    /// The isolation that was asked for can't be had.
    #[error("isolation by {program} can't be had: {reason}")]
    Isolation {
        /// The program that isolates.
        program: &'static str,
        /// What it said, and what to do.
        reason: String,
    },
    /// The credential helper could not ask the container.
    #[error("the container's credential socket can't be asked")]
    CredentialSocket {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The credential helper was started by something other than git in a container.
    #[error("the credential helper needs {needs}")]
    CredentialUse {
        /// What is missing.
        needs: &'static str,
    },
    /// The town's config can't be used.
    #[error("the town's config is not usable: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The text is not an address of a repository that this container may use.
    #[error("git url {url:?} can't be used: {reason}")]
    GitUrl {
        /// The text, without any password in it.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text is not a branch name.
    #[error("{name:?} is not a branch name")]
    BranchName {
        /// The text.
        name: String,
    },
    /// The git program can't be run.
    #[error("the git program can't be run")]
    GitMissing {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git refused.
    #[error("git {command} failed: {text}")]
    Git {
        /// The git command.
        command: &'static str,
        /// What git said.
        text: String,
    },
    /// git took too long and was ended.
    #[error("git {command} did not end within {} s", limit.as_secs())]
    GitTimedOut {
        /// The git command.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The repository lacks a branch that the work needs.
    #[error("the repository has no branch {branch} (it has: {present})")]
    NoBranch {
        /// The branch.
        branch: String,
        /// The branches it has.
        present: String,
    },
    /// The agent server can't be started, reached or used.
    #[error(transparent)]
    AgentServer(#[from] crate::sdk::Error),
}

impl Error {
    /// The whole story in one line: this error and everything under it.
    #[must_use]
    pub fn story(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }

    /// Whether the same thing may work later without anyone doing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Git { text, .. } => super::git::is_unreachable(text),
            Self::GitTimedOut { .. } => true,
            _ => false,
        }
    }

    /// What an agent ends with when this stops its start; `fallback` says what was being done.
    #[must_use]
    pub fn exit_kind(&self, fallback: ExitKind) -> ExitKind {
        match self {
            Self::Config { .. } => ExitKind::Config,
            Self::GitUrl { .. } | Self::GitMissing { .. } | Self::NoBranch { .. } => {
                ExitKind::Repository
            }
            Self::AgentServer(crate::sdk::Error::ProgramMissing { .. }) => ExitKind::ProgramMissing,
            _ => fallback,
        }
    }
}
