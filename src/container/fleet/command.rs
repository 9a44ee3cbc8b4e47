//! All that can happen to a fleet.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::agent::Session;
use super::limits::Looked;
use super::server::RunningServer;
use super::stats::Measured;
use crate::config::ResolvedTownConfig;
use crate::container::protocol::{
    AgentExited, AgentMerge, AgentState, AnswerQuestion, ExitKind, Health, MergeBranch,
    MessageAgent, PermissionAnswer, RemoveAgent, StartAgent, StopAgent,
};
use crate::model::AgentId;
use crate::sdk::Event;

/// Where an answer goes. The asker may have left; then it goes nowhere.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// Nobody of that id was ever started here.
    #[error("the container has no agent {0}")]
    UnknownAgent(AgentId),
    /// The ask is not open.
    #[error("the agent has no open ask {0}")]
    UnknownAsk(String),
    /// It runs or starts already.
    #[error("agent {0} is started already")]
    AlreadyStarted(AgentId),
    /// It has no session yet or any more.
    #[error("agent {0} is not started")]
    NotStarted(AgentId),
    /// Another agent has the same name and so the same folder.
    #[error("agent {0} works under the same name")]
    NameTaken(AgentId),
    /// The container ends.
    #[error("the container is draining")]
    Draining,
    /// More is asked than the container takes.
    #[error("the container has too much to do")]
    Overloaded,
    /// The request's content can't be used.
    #[error("{0}")]
    Invalid(String),
    /// The agent server did not do it.
    #[error("{0}")]
    AgentServer(String),
    /// git or the disk did not do it.
    #[error("{0}")]
    Repository(String),
}

/// Why an agent could not be started or went down.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ExitKind,
    pub(super) reason: String,
}

/// An agent of one run: what is told about another run is out of date.
pub(super) type Run = (AgentId, u64);

/// A start that came to its end.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) session: Session,
    pub(super) resumed: bool,
    pub(super) branch: Option<String>,
}

/// All that can happen.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody asked something at all.
    Contact,
    Health(Reply<Health>),
    Start(
        Box<StartAgent>,
        Arc<ResolvedTownConfig>,
        Reply<Result<(), Denied>>,
    ),
    Message(
        AgentId,
        MessageAgent,
        Arc<ResolvedTownConfig>,
        Reply<Result<(), Denied>>,
    ),
    Stop(AgentId, StopAgent, Reply<Result<(), Denied>>),
    Remove(AgentId, RemoveAgent, Reply<Result<(), Denied>>),
    Status(AgentId, Reply<Result<AgentState, Denied>>),
    AnswerPermission(AgentId, String, PermissionAnswer, Reply<Result<(), Denied>>),
    AnswerQuestion(AgentId, String, AnswerQuestion, Reply<Result<(), Denied>>),
    Merge(
        Box<MergeBranch>,
        Option<Arc<ResolvedTownConfig>>,
        Reply<Result<(), Denied>>,
    ),
    /// Why, in words.
    Drain(&'static str),
    Shutdown,

    /// A start needs the agent server.
    NeedServer(
        Run,
        Arc<ResolvedTownConfig>,
        Reply<Result<Arc<RunningServer>, Failure>>,
    ),
    /// The agent server is up, or not.
    ServerStarted(u64, Result<Arc<RunningServer>, Failure>),
    /// The agent server is gone.
    ServerEnded(u64, String),
    /// A start ended.
    Prepared(Run, Result<Prepared, Failure>),
    /// The session took a prompt, or did not.
    Prompted(Run, Result<(), Failure>),
    /// A turn that may have ended unheard was looked at, which began at that moment.
    TurnChecked(Run, Instant, TurnSeen),
    /// An agent's uncommitted work was saved, and it may exit.
    Saved(Run, AgentExited),
    /// A merge ended.
    Merged(AgentMerge),
    /// What all processes together use was measured.
    Measured(Measured),
    /// It was looked who is over a limit.
    Looked(Looked),
}

/// What the agent server says about a session's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TurnSeen {
    /// It runs.
    Open,
    /// Nothing runs.
    Ended,
    /// Nothing runs, and what ran last failed.
    Failed(String),
    /// Nobody knows: there was no answer.
    Unanswered(String),
}

/// An event and the agent server that it is from.
#[derive(Debug)]
pub(super) enum StreamItem {
    /// An event.
    Event(Event),
    /// The stream broke for this reason and was opened anew; events may have been missed.
    Reopened(String),
}
