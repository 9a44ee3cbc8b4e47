//! What can go wrong with an agent server, by what the caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use super::{AgentServerKind, ServerExit};

/// Why an agent server could not be started or a call to it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent program is not installed where it was looked for.
    #[error("find the agent program {}: install it or name its path", program.display())]
    ProgramMissing {
        /// The path or name that was looked for.
        program: PathBuf,
    },
    /// The private home folder can't be made or made private.
    #[error("prepare the agent server's home {}", path.display())]
    Home {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The guard process could not be started or could not do its work.
    #[error("run the guard {}", program.display())]
    Guard {
        /// The program that was to be run.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The guard was called with arguments that it does not know.
    #[error("read the guard's arguments: expected `guard [--stdin] -- PROGRAM ARGS...`")]
    GuardUsage,
    /// The program runs but did not say in time that it is ready to be spoken to.
    #[error("wait for {kind} to be ready: not so after {waited:?}; its last output: {output}")]
    NotReady {
        /// Which agent server.
        kind: AgentServerKind,
        /// How long it was waited for.
        waited: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// The program ended before it was ready.
    #[error("start {kind}: {exit}")]
    Exited {
        /// Which agent server.
        kind: AgentServerKind,
        /// How it ended.
        exit: ServerExit,
    },
    /// Nobody answers at the agent server's address, or the connection broke.
    #[error("reach the agent server for {call}")]
    Unreachable {
        /// The call, for example `POST /session`.
        call: String,
        /// Why.
        source: std::io::Error,
    },
    /// The agent server answered that it does not do this.
    #[error("{call}: the agent server answered {status}: {body}")]
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer's text.
        body: String,
    },
    /// An agent of the Agent Client Protocol answered with an error.
    #[error("{call}: the agent answered with error {code}: {text}")]
    Agent {
        /// The call, for example `session/new`.
        call: String,
        /// JSON-RPC's number for it.
        code: i32,
        /// What the agent says.
        text: String,
    },
    /// This kind of agent server has no such call.
    #[error("{call}: {kind} does not offer this")]
    NotOffered {
        /// What was to be called.
        call: String,
        /// Which agent server.
        kind: AgentServerKind,
    },
    /// The agent server did not answer in time.
    #[error("{call}: no answer from the agent server within {limit:?}")]
    TimedOut {
        /// The call.
        call: String,
        /// The limit.
        limit: Duration,
    },
    /// The answer, or an event, is not of the shape that the protocol promises.
    #[error("{call}: the agent server's answer makes no sense: {reason}")]
    BadAnswer {
        /// The call.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent server could not connect to a tool server that it was told of.
    #[error("connect the agent server to the tool server {name}: {reason}")]
    ToolServer {
        /// The tool server's name.
        name: String,
        /// What the agent server said about it.
        reason: String,
    },
}
