//! Everything that crosses the socket between the server and a town's container process.
//!
//! The container's control server and the server's side of it share these types, so that the two
//! can't drift apart. Two things are not types here: the header [`CONFIG_HEADER`] holds the JSON of
//! the town's resolved config, and the `data` of a forwarded agent server event is passed through
//! as the bytes that came in.
//!
//! Sequence numbers of one container process start at 1 and rise by one. They are comparable only
//! within one [`Epoch`], which is new for every container process. The first frame on every link,
//! [`LinkResumed`] with sequence 0, says which epoch speaks; it is never stored nor acknowledged.

mod disk;
mod setback;
pub mod text;

pub use disk::{
    ContainerDisk, KeptWorktree, RigDisk, Tidied, TidyDisk, TidyRig, TidyWorktree, WorktreeDisk,
};
pub use setback::{AgentSetback, SetbackCause};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{AgentId, AgentRole, BeadId, Epoch, RigId, Timestamp, TownId};

/// The request header that carries the town's resolved config as raw UTF-8 JSON.
pub const CONFIG_HEADER: &str = "x-town-config";

/// The most bytes a container message may have, and so the largest frame on the link. One agent
/// event is at most 1 MiB; the rest is room for its envelope.
pub const MESSAGE_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// The most bytes of a request's body: a system prompt, a prompt and an environment.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The most bytes of a request's head, of which [`CONFIG_HEADER`] is nearly all.
pub const HEAD_BYTES_MAX: usize = 2 << 20;

/// The `type` of the container's own messages; all other types are the agent server's.
pub mod message_type {
    /// [`LinkResumed`](super::LinkResumed), the first frame on every link.
    pub const LINK_RESUMED: &str = "link.resumed";
    /// [`AgentStarted`](super::AgentStarted).
    pub const AGENT_STARTED: &str = "agent.started";
    /// [`AgentExited`](super::AgentExited).
    pub const AGENT_EXITED: &str = "agent.exited";
    /// [`AgentIdle`](super::AgentIdle).
    pub const AGENT_IDLE: &str = "agent.idle";
    /// [`AgentWaiting`](super::AgentWaiting).
    pub const AGENT_WAITING: &str = "agent.waiting";
    /// [`AgentResumed`](super::AgentResumed).
    pub const AGENT_RESUMED: &str = "agent.resumed";
    /// [`AgentLimited`](super::AgentLimited).
    pub const AGENT_LIMITED: &str = "agent.limited";
    /// [`AgentSetback`](super::AgentSetback).
    pub const AGENT_SETBACK: &str = "agent.setback";
    /// The agent's model answers again after an [`AgentSetback`](super::AgentSetback); no content.
    pub const AGENT_RECOVERED: &str = "agent.recovered";
    /// [`AgentMerge`](super::AgentMerge).
    pub const AGENT_MERGE: &str = "agent.merge";
    /// [`ContainerDraining`](super::ContainerDraining).
    pub const CONTAINER_DRAINING: &str = "container.draining";
    /// [`ContainerStats`](super::ContainerStats).
    pub const CONTAINER_STATS: &str = "container.stats";
    /// [`ContainerDisk`](super::ContainerDisk).
    pub const CONTAINER_DISK: &str = "container.disk";
}

/// `POST /agents/start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartAgent {
    /// The agent.
    #[serde(with = "text")]
    pub agent_id: AgentId,
    /// Its rig; `None` for the mayor.
    #[serde(default, with = "text::option")]
    pub rig_id: Option<RigId>,
    /// Its town; must be the container's.
    #[serde(with = "text")]
    pub town_id: TownId,
    /// What it is for.
    #[serde(with = "text")]
    pub role: AgentRole,
    /// Its short name, unique in the town; names the worktree.
    pub name: String,
    /// Its identity, unique in the town; the author of its commits.
    pub identity: String,
    /// The first prompt of this run; empty to start the session and say nothing yet.
    pub prompt: String,
    /// The role's system prompt.
    pub system_prompt: String,
    /// Overrides the config's model for the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The repository; without one the agent gets a plain directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
    /// The branch to work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The branch to begin from; `main` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// A session of an earlier run, to be resumed if it still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// What was said in that session, in case that it no longer exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// What the agent's tools authenticate with at the server.
    pub agent_token: String,
    /// Environment variables for this agent's own commands.
    #[serde(default)]
    pub env_vars: std::collections::BTreeMap<String, String>,
}

/// `POST /agents/{id}/message`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageAgent {
    /// What to say to the agent.
    pub prompt: String,
    /// Replaces the system prompt of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
}

/// `POST /agents/{id}/stop`; an empty body means the default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopAgent {
    /// How long the session may take to become idle by itself before it is aborted.
    #[serde(default)]
    pub when_idle_within_ms: u64,
}

/// `POST /agents/{id}/remove`; an empty body will do for an agent that this container process knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveAgent {
    /// Its rig, to find the worktree of an agent that only an earlier process knew.
    #[serde(default, with = "text::option")]
    pub rig_id: Option<RigId>,
    /// Its name, for the same.
    #[serde(default)]
    pub name: String,
}

/// `POST /agents/{id}/permissions/{askId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerPermission {
    /// The answer.
    pub reply: PermissionAnswer,
}

/// What a permission ask may be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionAnswer {
    /// This time.
    Once,
    /// This time and whenever the same is asked again.
    Always,
    /// No.
    Reject,
}

/// `POST /agents/{id}/questions/{askId}`: one list of chosen answers for each question, or a
/// refusal to answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AnswerQuestion {
    /// The answers, in the order of the questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Vec<String>>,
    /// Refuses to answer.
    #[serde(default)]
    pub reject: bool,
}

/// `POST /git/merge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MergeBranch {
    /// The rig whose repository it is.
    #[serde(with = "text")]
    pub rig_id: RigId,
    /// The branch to merge.
    pub branch: String,
    /// The branch to merge it into.
    pub target_branch: String,
    /// The repository.
    pub git_url: String,
    /// The merge request; asking again for the same one never merges twice.
    #[serde(with = "text")]
    pub entry_id: BeadId,
    /// Whether it may be merged only as it was approved; then anything else than
    /// `approved_commit` is [`MergeStatus::Found`] and stays as it is.
    #[serde(default)]
    pub needs_approval: bool,
    /// The branch's commit that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_commit: Option<String>,
    /// The message of the merge commit.
    pub message: String,
    /// Commands that must succeed on the merged tree before it is pushed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
    /// How long each of them may run.
    #[serde(default)]
    pub gate_timeout_ms: u64,
    /// Whether git may settle conflicts that are about white space alone.
    #[serde(default)]
    pub settle_white_space: bool,
}

/// The answer of `GET /health`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Agents that are starting, running or waiting.
    pub agents: usize,
    /// Those of them that rest, as a mayor does between two messages: nothing of theirs is cut
    /// short when the container ends.
    #[serde(default)]
    pub resting: usize,
    /// Merges under way.
    #[serde(default)]
    pub merges: usize,
    /// Agent server processes.
    pub servers: usize,
    /// Seconds since the container process began.
    pub uptime: u64,
    /// The life of the container process, which its sequence numbers belong to.
    #[serde(with = "text")]
    pub epoch: Epoch,
    /// Whether it is draining and takes no new work.
    pub drain: bool,
    /// Its process id, as seen from inside.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// What it used when it last told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<ContainerStats>,
}

/// What an agent of the container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentPhase {
    /// Repository, worktree, agent server or session are being made ready.
    Starting,
    /// It has a session.
    Running,
    /// It asked a person something.
    Waiting,
    /// It was stopped or drained.
    Exited,
    /// It ended with an error.
    Failed,
}

impl AgentPhase {
    /// Whether the run has ended, however it did.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Exited | Self::Failed)
    }
}

/// The answer of `GET /agents/{id}/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentState {
    /// The agent.
    #[serde(with = "text")]
    pub agent_id: AgentId,
    /// What it is doing.
    pub status: AgentPhase,
    /// Whether its session is in the middle of a turn.
    pub busy: bool,
    /// Its session, once it has one.
    pub session_id: Option<String>,
    /// When it was started.
    #[serde(with = "text")]
    pub started_at: Timestamp,
    /// When its session last showed any event.
    #[serde(with = "text")]
    pub last_activity_at: Timestamp,
    /// The tools that run at the moment.
    pub active_tools: Vec<String>,
    /// The messages of its session that were seen in this run.
    pub message_count: u64,
    /// The asks it waits for.
    pub asks: Vec<AgentWaiting>,
    /// Why it ended, if it did.
    pub exit_reason: Option<String>,
    /// What it waits for besides people: a model that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setback: Option<AgentSetback>,
}

/// The body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, for a person.
    pub error: String,
    /// What is wrong, for a program.
    pub code: String,
}

/// The [`Refusal::code`] of a container that takes nothing new because it ends.
pub const DRAINING_CODE: &str = "draining";

/// What the server says on the link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerFrame {
    /// The first frame: what the server has safely on disk.
    #[serde(rename_all = "camelCase")]
    Resume {
        /// The epoch that `after_seq` belongs to; `None` if the server knows none.
        #[serde(default, with = "text::option")]
        epoch: Option<Epoch>,
        /// The highest sequence it has on disk.
        #[serde(default)]
        after_seq: u64,
    },
    /// Everything up to this sequence is on disk.
    Ack {
        /// The sequence.
        seq: u64,
    },
}

/// One message of the container, as the server reads it: borrowed from the frame.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerMessage<'a> {
    /// Its place in the container's epoch; 0 for [`LinkResumed`] only.
    pub seq: u64,
    /// The agent it is about; `None` if it is about the container or a merge.
    #[serde(default, with = "text::option")]
    pub agent_id: Option<AgentId>,
    /// One of [`message_type`] or a type of the agent server.
    #[serde(borrow, rename = "type")]
    pub message_type: std::borrow::Cow<'a, str>,
    /// Its payload, as it came.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// When the container made it: RFC 3339 with milliseconds.
    #[serde(with = "text")]
    pub timestamp: Timestamp,
}

/// The first frame on every link: who speaks, and from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkResumed {
    /// The container's epoch.
    #[serde(with = "text")]
    pub epoch: Epoch,
    /// The sequence of the next message on this link.
    pub next_seq: u64,
    /// Whether the server's position was understood; if not, everything that is still held follows.
    pub recovered: bool,
}

/// An agent has its session and is about to be prompted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStarted {
    /// Its session, to be given back at the next start.
    pub session_id: String,
    /// Whether that is the session the start asked for.
    pub resumed: bool,
    /// The branch that is checked out, if it has a repository.
    pub branch: Option<String>,
    /// The directory it works in.
    pub worktree: String,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It was asked to.
    Stopped,
    /// Something went wrong.
    Failed,
    /// The container ends.
    Drained,
}

/// What an agent ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// The agent server's program is not installed.
    ProgramMissing,
    /// The agent server did not become ready.
    NotReady,
    /// The repository can't be had.
    Repository,
    /// The worktree or branch can't be made.
    Worktree,
    /// The agent server refused the session or the prompt.
    Session,
    /// The model can't be reached or refused.
    Model,
    /// The agent server ended or stopped answering.
    AgentServer,
    /// Nothing: it was stopped.
    Stopped,
    /// The town's config can't be used.
    Config,
}

impl ExitKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProgramMissing => "program_missing",
            Self::NotReady => "not_ready",
            Self::Repository => "repository",
            Self::Worktree => "worktree",
            Self::Session => "session",
            Self::Model => "model",
            Self::AgentServer => "agent_server",
            Self::Stopped => "stopped",
            Self::Config => "config",
        }
    }
}

/// An agent ended. Exactly one follows every accepted start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentExited {
    /// How.
    pub status: ExitStatus,
    /// Why, for a person: the real error's text.
    pub reason: String,
    /// Why, for a program.
    pub kind: ExitKind,
    /// Before this moment another try would fail as well, as the model said.
    #[serde(
        default,
        with = "text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub retry_at: Option<Timestamp>,
}

/// An agent's turn ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AgentIdle {
    /// What the turn ended with, if that was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether its run is about to end anyway, so that nobody has to tell it to go on.
    #[serde(default)]
    pub ending: bool,
}

/// What an agent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskKind {
    /// Leave to do something.
    Permission,
    /// An answer.
    Question,
}

/// An agent asked a person something and waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentWaiting {
    /// The ask, for the answer.
    pub ask_id: String,
    /// What it wants.
    pub kind: AskKind,
    /// The ask in one line.
    pub title: String,
    /// The whole ask as the agent server told it.
    pub detail: Box<RawValue>,
}

/// An ask was answered or withdrawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentResumed {
    /// The ask.
    pub ask_id: String,
}

/// An agent's commands used more than the container may, and were ended. The agent goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentLimited {
    /// Which limit, and by how much.
    pub reason: String,
}

/// How a merge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeStatus {
    /// The target branch on the remote is proven to contain the branch.
    Merged,
    /// The branch does not fit the target.
    Conflict,
    /// It could not be tried, or was refused.
    Failed,
    /// The branch is not merged: its commit, told as `commit_sha`, is not the approved one.
    Found,
}

/// A merge ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentMerge {
    /// The merge request.
    #[serde(with = "text")]
    pub entry_id: BeadId,
    /// How it ended.
    pub status: MergeStatus,
    /// What happened, for a person: the conflicting files, or git's own words.
    pub message: String,
    /// The commit on the target branch that contains the branch; of one that was only found, the
    /// branch's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<String>,
    /// Whether the same merge may succeed later without anyone doing anything.
    pub retryable: bool,
    /// What the gates said, if any ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<GatesReport>,
}

/// What the gates of a merge said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatesReport {
    /// Whether all of them succeeded.
    pub passed: bool,
    /// The end of what they printed.
    pub output: String,
}

/// The container takes nothing new any more, saves its agents' work and ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerDraining {
    /// Who wanted it, in words.
    pub reason: String,
}

/// What the container uses: told at most every 30 seconds, and only if it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStats {
    /// Agents that are starting, running or waiting.
    pub agents: usize,
    /// Agent server processes.
    pub servers: usize,
    /// Resident memory of the container process and everything it started.
    pub rss_bytes: u64,
    /// The container process and everything it started.
    #[serde(default)]
    pub processes: usize,
    /// Seconds since the container process began.
    #[serde(default)]
    pub uptime: u64,
}
