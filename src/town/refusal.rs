//! Why a command was not carried out.

use crate::agent_log::AppendError;
use crate::config::Issue;
use crate::model::{AgentId, AskId, BeadId, MoleculeId, RigId};
use crate::{container, storage};

/// The state or the content of a command forbids it; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such town, or not this user's.
    #[error("there is no such town")]
    TownNotFound,
    /// No such rig in this town.
    #[error("there is no rig {0} in this town")]
    RigNotFound(RigId),
    /// No such bead in this rig or town.
    #[error("there is no bead {0} here")]
    BeadNotFound(BeadId),
    /// No such agent in this rig or town.
    #[error("there is no agent {0} here")]
    AgentNotFound(AgentId),
    /// No such escalation in this town.
    #[error("there is no escalation {0} here")]
    EscalationNotFound(BeadId),
    /// No agent asks this, or not any more.
    #[error("no agent asks {0}, or not any more")]
    AskNotFound(AskId),
    /// The answer is on its way.
    #[error("ask {0} has been answered; the agent is being told")]
    AskAnswered(AskId),
    /// The agent runs.
    #[error("agent {0} is started already")]
    AgentRunning(AgentId),
    /// The agent does not run.
    #[error("agent {0} does not run")]
    AgentNotRunning(AgentId),
    /// No such merge request here.
    #[error("there is no merge request {0} here")]
    ReviewNotFound(BeadId),
    /// The town has no mayor.
    #[error("this town has no mayor")]
    MayorNotFound,
    /// A rig of that name exists.
    #[error("this town already has a rig named {0:?}")]
    RigNameTaken(String),
    /// An agent of that name exists.
    #[error("this town already has an agent named {0:?}")]
    AgentNameTaken(String),
    /// An agent of that identity exists.
    #[error("this town already has an agent with the identity {0:?}")]
    IdentityTaken(String),
    /// There is one of that role already.
    #[error("there can be only one {0} here")]
    RoleTaken(&'static str),
    /// The bead is closed or failed.
    #[error("bead {0} is {1}; only status \"open\" sent by a user changes it")]
    BeadTerminal(BeadId, &'static str),
    /// Only a failed bead can be tried again.
    #[error("bead {0} is {1}, and only a failed one can be tried again")]
    BeadNotFailed(BeadId, &'static str),
    /// The bead is on a hook.
    #[error("bead {0} is on the hook of agent {1}")]
    BeadHooked(BeadId, AgentId),
    /// The bead's branch is in the review queue.
    #[error("bead {0} waits for its merge request {1}")]
    BeadInReview(BeadId, BeadId),
    /// The agent's hook is taken.
    #[error("agent {0} already has bead {1} on its hook")]
    AgentHooked(AgentId, BeadId),
    /// The agent has nothing on its hook.
    #[error("agent {0} has nothing on its hook")]
    HookEmpty(AgentId),
    /// The merge request is finished.
    #[error("merge request {0} is already {1}")]
    ReviewFinished(BeadId, &'static str),
    /// The merge request is not where this can be done to it.
    #[error("merge request {0} is {1}; that can't be done to it now")]
    ReviewElsewhere(BeadId, &'static str),
    /// The word is about another commit than the one the branch is at.
    #[error("the branch of merge request {0} is at {1} now; look at it anew")]
    ReviewMoved(BeadId, String),
    /// Another agent, or none, reviews it.
    #[error("merge request {0} is not on the hook of agent {1}")]
    ReviewNotHeld(BeadId, AgentId),
    /// The rig has as many polecats as it may.
    #[error(
        "this rig already has {0} polecats and all are busy; max_polecats_per_rig allows no more"
    )]
    TooManyPolecats(u32),
    /// No such convoy in this town.
    #[error("there is no convoy {0} in this town")]
    ConvoyNotFound(BeadId),
    /// The convoy takes no more beads because it has landed.
    #[error("convoy {0} has landed")]
    ConvoyLanded(BeadId),
    /// The convoy takes no more beads because it is too large.
    #[error("a convoy has at most {0} beads")]
    ConvoyFull(usize),
    /// The bead travels in another convoy.
    #[error("bead {0} is in convoy {1} already")]
    BeadInConvoy(BeadId, BeadId),
    /// The bead waits for others.
    #[error("bead {0} is blocked: {1} of the beads that it depends on are not closed")]
    BeadBlocked(BeadId, u32),
    /// The bead does not depend on that one.
    #[error("bead {0} does not depend on bead {1}")]
    DependencyNotFound(BeadId, BeadId),
    /// The bead depends on that one already.
    #[error("bead {0} depends on bead {1} already")]
    DependencyExists(BeadId, BeadId),
    /// The other bead depends on this one, or is this one.
    #[error(
        "bead {0} can't depend on bead {1}: that one depends on it, directly or through others"
    )]
    DependencyCycle(BeadId, BeadId),
    /// Too many beads hang together.
    #[error("more than {0} beads would depend on each other here")]
    TooManyDependencies(usize),
    /// No such molecule in this rig.
    #[error("there is no molecule {0} here")]
    MoleculeNotFound(MoleculeId),
    /// The bead has steps that are under way.
    #[error("bead {0} has molecule {1} already, and it is not finished")]
    MoleculeExists(BeadId, MoleculeId),
    /// The molecule has no step left.
    #[error("molecule {0} is already {1}")]
    MoleculeFinished(MoleculeId, &'static str),
    /// The bead can't be finished by an agent before its last step.
    #[error(
        "bead {0} is at step {1} of {2}: do each step and advance its molecule before you finish it"
    )]
    MoleculeUnfinished(BeadId, u32, u32),
    /// The key of the request was used for another one.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// Fields that are wrong.
    #[error("the request is not valid")]
    Invalid(Vec<Issue>),
}

/// Why a call of a town failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`Refusal`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many commands wait; try again.
    #[error("the town is overloaded")]
    Overloaded,
    /// The town or the server is shutting down.
    #[error("the town is closing")]
    Closing,
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] storage::Error),
    /// An event could not be appended.
    #[error("the event could not be stored")]
    Append(#[from] AppendError),
    /// The container could not do it.
    #[error("the town's container failed")]
    Container(#[from] container::CallError),
}

impl Refusal {
    /// One wrong field.
    pub(super) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Issue {
            path: vec![field.to_owned()],
            message: message.into(),
        }])
    }
}
