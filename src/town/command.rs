//! Everything that can be asked of a town's actor, and what it answers.

use tokio::sync::oneshot;

use crate::container::{AgentReport, ContainerReport, LinkState, MergeReport};
use crate::model::{
    Agent, AgentId, AgentRole, AskId, Bead, BeadId, BeadStatus, BeadType, Convoy, Dependency, Json,
    Mail, MailId, MailType, Molecule, MoleculeStep, Priority, ReviewStatus, Rig, RigId,
    UnknownVariant,
};
use crate::storage::{LinkPosition, Once};

use super::asks::AskReply;
use super::queries::AskView;
use super::refusal::Error;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A closed list: reading it tells all that can happen to a town.
pub(super) enum Command {
    /// A command that is to be carried out once, however often it is sent.
    Once(Once, Box<Command>),
    CreateRig(NewRig, Reply<Rig>),
    DeleteRig(RigId, Reply<Vec<AgentId>>),
    SetConfig(serde_json::Value, Reply<crate::config::TownConfig>),
    CreateBead(RigId, NewBead, Reply<Bead>),
    SetBeadStatus(RigId, BeadId, StatusChange, Reply<Bead>),
    DeleteBead(RigId, BeadId, Reply<()>),
    AddDependency(RigId, BeadId, Dependency, Option<String>, Reply<Bead>),
    RemoveDependency(RigId, BeadId, BeadId, Option<String>, Reply<()>),
    CreateConvoy(NewConvoy, Reply<ConvoyState>),
    ConvoyBeadClosed(BeadId, BeadId, Reply<ConvoyState>),
    CreateMolecule(RigId, BeadId, Vec<MoleculeStep>, Reply<Molecule>),
    AdvanceMolecule(RigId, AgentId, String, Reply<Option<Advanced>>),
    Sling(RigId, SlingOrder, Reply<Slung>),
    CreateAgent(RigId, NewAgent, Reply<Agent>),
    GetOrCreateAgent(RigId, AgentRole, Reply<Agent>),
    DeleteAgent(RigId, AgentId, Reply<()>),
    Hook(RigId, AgentId, BeadId, Reply<()>),
    Unhook(RigId, AgentId, Reply<()>),
    Prime(RigId, AgentId, Reply<Prime>),
    Done(RigId, AgentId, AgentDone, Reply<()>),
    Completed(RigId, AgentId, CompletedStatus, Option<String>, Reply<()>),
    Checkpoint(RigId, AgentId, Json, Reply<()>),
    Heartbeat(RigId, AgentId, Reply<()>),
    SendMail(Option<RigId>, NewMail, Reply<()>),
    CheckMail(RigId, AgentId, Reply<Vec<Mail>>),
    Nudge(Option<RigId>, AgentId, NewNudge, Reply<Mail>),
    SubmitReview(RigId, NewReview, Reply<Bead>),
    /// What a person says of it, having looked at this commit.
    CompleteReview(RigId, BeadId, ReviewOutcome, Option<String>, Reply<()>),
    /// What the agent that reviews a branch says of it; `None` is the one on its hook.
    JudgeReview(RigId, AgentId, Option<BeadId>, Judgement, Reply<()>),
    Escalate(Option<RigId>, Escalation, Reply<Bead>),
    Acknowledge(BeadId, Reply<Bead>),
    CloseEscalation(BeadId, Reply<Bead>),
    PauseTown(bool, Reply<()>),
    PauseRig(RigId, bool, Reply<()>),
    StopAll(Reply<Vec<AgentId>>),
    StopAgent(RigId, AgentId, Reply<StoppedRun>),
    Retry(RigId, BeadId, Option<String>, Reply<Bead>),
    /// What the alarm would do now, as JSON; nothing is done.
    DryRun(Reply<serde_json::Value>),
    TellMayor(String, Reply<MayorSession>),
    ConfigureMayor(Reply<Agent>),
    MayorCompleted(CompletedStatus, Option<String>, Reply<Agent>),
    DestroyMayor(Reply<()>),
    StartRun(AgentId, Reply<Agent>),
    StopRun(AgentId, Reply<Agent>),
    MessageAgent(AgentId, String, Reply<Agent>),
    /// A message did not get to an agent's session.
    MessageFailed(AgentId, String),
    AnswerAsk(AskId, AskReply, Reply<AskView>),
    /// An answer did not get to the agent server.
    AnswerFailed(AskId, String),
    /// The container knows no such ask.
    AskUnknown(AskId),
    /// The notification hook was run for an escalation.
    Notified(BeadId, Result<(), String>),
    /// The container's link came up or went down, as the supervisor saw it.
    Link(LinkState),
    /// What the container says of agents, each of another; taken over once, by its place in the stream.
    Report(LinkPosition, Vec<(AgentId, AgentReport)>, Reply<()>),
    /// How a merge ended; taken over once.
    Merged(LinkPosition, MergeReport, Reply<()>),
    /// What the container says of itself; taken over once.
    ContainerTold(LinkPosition, ContainerReport, Reply<()>),
    /// The container could not be asked to drain.
    DrainFailed(String),
    /// An agent showed life; told at most every half minute.
    Activity(AgentId),
    /// The container was asked to start an agent and did not take it.
    StartFailed(AgentId, String),
    /// The container that was asked to start an agent ends, and the next one is to be asked.
    StartDeferred(AgentId),
    /// The container does not know an agent that it was asked to start.
    NotRunning(AgentId),
    /// Messages were put to an agent's session, or could not be.
    Told(AgentId, Vec<MailId>, bool),
    /// The container runs an agent whose turn is over.
    FoundIdle(AgentId),
    /// An agent could not be told to go on.
    RemindFailed(AgentId),
    /// The container that was to remind an agent ends, and the agent with it.
    RemindDeferred(AgentId),
    /// A merge could not be asked for.
    MergeFailed(BeadId, String),
    /// The container could not be asked to tidy up.
    TidyFailed(String),
    /// What a deleted agent left is gone, or not.
    Removed(AgentId, Result<(), String>),
    /// The container was asked, and the agent is at work, or its end is told soon.
    FoundAtWork(AgentId),
    /// The container did not say whether it runs the agent.
    VerifyFailed(AgentId, String),
    /// The server is stopping: take over what happens, start nothing.
    Quiesce,
}

/// A rig to be made.
#[derive(Clone, Debug)]
pub struct NewRig {
    /// 1 to 64 characters, unique in the town.
    pub name: String,
    /// Where the repository is.
    pub git_url: String,
    /// The branch that work is merged into.
    pub default_branch: String,
    /// A link to a hosting platform, kept for older clients.
    pub platform_integration_id: Option<String>,
    /// The rig's own gateway token.
    pub kilocode_token: Option<String>,
}

/// A bead to be made.
#[derive(Clone, Debug)]
pub struct NewBead {
    /// What it is.
    pub bead_type: BeadType,
    /// A line.
    pub title: String,
    /// The whole text.
    pub body: Option<String>,
    /// How much it matters.
    pub priority: Priority,
    /// Free labels.
    pub labels: Vec<String>,
    /// A JSON object.
    pub metadata: Json,
    /// The agent whose hook it goes on.
    pub assignee_agent_id: Option<AgentId>,
    /// The bead it is a part of.
    pub parent_bead_id: Option<BeadId>,
    /// Who makes it.
    pub created_by: Option<String>,
    /// The convoy it is to travel in.
    pub convoy_id: Option<BeadId>,
    /// Beads of the same rig that must be closed first.
    pub depends_on: Vec<BeadId>,
}

impl NewBead {
    /// One with nothing but a type and a title.
    #[must_use]
    pub fn of(bead_type: BeadType, title: String) -> Self {
        Self {
            bead_type,
            title,
            body: None,
            priority: Priority::Medium,
            labels: Vec::new(),
            metadata: Json::empty_object(),
            assignee_agent_id: None,
            parent_bead_id: None,
            created_by: None,
            convoy_id: None,
            depends_on: Vec::new(),
        }
    }
}

/// A convoy to be made.
#[derive(Clone, Debug)]
pub struct NewConvoy {
    /// A line.
    pub title: String,
    /// The beads, each with its rig.
    pub beads: Vec<(BeadId, RigId)>,
    /// Who makes it.
    pub created_by: Option<String>,
}

/// A convoy and how far it is.
#[derive(Clone, Debug)]
pub struct ConvoyState {
    /// Its progress.
    pub convoy: Convoy,
    /// Its own bead.
    pub bead: Bead,
}

/// A molecule that has gone on by a step.
#[derive(Clone, Debug)]
pub struct Advanced {
    /// As it is now.
    pub molecule: Molecule,
    /// The step that was done, counted from 0.
    pub previous_step: u32,
}

/// Who changes a bead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeadActor {
    /// A person or a program with a user's rights; may reopen.
    User(Option<String>),
    /// An agent by its own token.
    Agent(AgentId),
}

/// A status to be set.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// The new one.
    pub status: BeadStatus,
    /// Who sets it.
    pub actor: BeadActor,
}

/// Work to be given to a polecat.
#[derive(Clone, Debug)]
pub struct SlingOrder {
    /// A line.
    pub title: String,
    /// The whole text.
    pub body: Option<String>,
    /// How much it matters.
    pub priority: Priority,
    /// A JSON object.
    pub metadata: Json,
    /// Who slings.
    pub created_by: Option<String>,
}

/// What was slung, and on whose hook it is.
#[derive(Clone, Debug)]
pub struct Slung {
    /// The bead.
    pub bead: Bead,
    /// The polecat; `None` while the bead waits for one.
    pub agent: Option<Agent>,
}

/// An agent whose run was stopped.
#[derive(Clone, Debug)]
pub struct StoppedRun {
    /// The agent.
    pub agent_id: AgentId,
    /// The bead that was on its hook.
    pub bead_id: Option<BeadId>,
}

/// An agent to be made.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// What it is for.
    pub role: AgentRole,
    /// Unique in the town.
    pub name: String,
    /// Unique in the town.
    pub identity: String,
}

/// Everything an agent needs to begin.
#[derive(Clone, Debug)]
pub struct Prime {
    /// The agent itself.
    pub agent: Agent,
    /// What is on its hook.
    pub hooked_bead: Option<Bead>,
    /// The steps of that bead.
    pub molecule: Option<Molecule>,
    /// Mail that was handed over just now.
    pub undelivered_mail: Vec<Mail>,
    /// Work in its rig that nobody has.
    pub open_beads: Vec<Bead>,
}

/// An agent's word that its branch is ready.
#[derive(Clone, Debug)]
pub struct AgentDone {
    /// The branch.
    pub branch: String,
    /// A pull request on a hosting platform.
    pub pr_url: Option<String>,
    /// What was done.
    pub summary: Option<String>,
}

/// How an agent's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletedStatus {
    /// Well.
    Completed,
    /// Not well.
    Failed,
}

impl CompletedStatus {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for CompletedStatus {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        [Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownVariant {
                allowed: "completed, failed",
            })
    }
}

/// A mail to be sent.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// Who sends it; an agent's id or a word like `user`.
    pub from_agent_id: String,
    /// Who is to get it.
    pub to_agent_id: AgentId,
    /// A line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// What it is about.
    pub mail_type: MailType,
}

/// A word to an agent that is worth nothing when it comes late.
#[derive(Clone, Debug)]
pub struct NewNudge {
    /// Who sends it; an agent's id or a word like `user`.
    pub from_agent_id: String,
    /// The text.
    pub message: String,
    /// How long it is worth something.
    pub time_to_live: std::time::Duration,
}

/// A branch to be merged.
#[derive(Clone, Debug)]
pub struct NewReview {
    /// Who made it.
    pub agent_id: AgentId,
    /// The work it holds.
    pub bead_id: BeadId,
    /// The branch.
    pub branch: String,
    /// A pull request on a hosting platform.
    pub pr_url: Option<String>,
    /// What was done.
    pub summary: Option<String>,
}

/// What a reviewer says of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sound.
    Approve,
    /// It must be mended first.
    RequestChanges,
}

/// How a review ended.
#[derive(Clone, Debug)]
pub struct ReviewOutcome {
    /// `Merged`, `Failed` or `Conflict`.
    pub status: ReviewStatus,
    /// What happened.
    pub message: String,
    /// The commit on the target branch.
    pub commit_sha: Option<String>,
}

/// What a reviewer has to say.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// In its own words.
    pub text: String,
    /// The branch's commit that it looked at, if it says so.
    pub head_sha: Option<String>,
}

/// Something a person must look at.
#[derive(Clone, Debug)]
pub struct Escalation {
    /// A line.
    pub title: String,
    /// The whole text.
    pub body: Option<String>,
    /// How bad it is.
    pub priority: Priority,
    /// A JSON object.
    pub metadata: Json,
    /// Who raises it.
    pub created_by: Option<String>,
    /// What it is about: while one about the same matter is open, no second one is made.
    pub matter: Option<String>,
}

/// The mayor's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayorSession {
    /// The mayor.
    pub agent_id: AgentId,
    /// What its session is doing.
    pub status: SessionStatus,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// Nothing.
    Idle,
    /// A turn is under way.
    Active,
    /// It is being made ready.
    Starting,
}

impl SessionStatus {
    /// Of an agent with a session of its own.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        use crate::model::AgentStatus::{Waiting, Working};
        match (
            agent.dispatch.requested_at,
            &agent.dispatch.session_id,
            agent.status,
        ) {
            (Some(_), None, _) => Self::Starting,
            (Some(_), Some(_), Working | Waiting) => Self::Active,
            _ => Self::Idle,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Starting => "starting",
        }
    }
}
