//! What an agent can ask for, and how the town answers.

use std::future::Future;

use serde_json::Value;

use crate::model::{AgentId, BeadId, BeadStatus, MailType, Priority};

/// Whoever carries out the calls of agents.
pub trait AgentTools: Send + Sync + 'static {
    /// Carries out one call. The agent is known to exist and its role to have this tool. The value
    /// is shown to the model: text as it is, anything else as JSON.
    fn call(
        &self,
        agent: AgentId,
        tool: ToolCall,
    ) -> impl Future<Output = Result<Value, ToolError>> + Send;
}

/// One call with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolCall {
    /// The agent, the bead on its hook, its mail and the open beads.
    Prime,
    /// The work on the hook is finished and pushed.
    Done {
        /// The branch that holds it.
        branch: String,
        /// A pull request on a hosting platform.
        pr_url: Option<String>,
        /// What was done.
        summary: Option<String>,
    },
    /// Reads a bead or changes its status.
    BeadStatus {
        /// Which.
        bead_id: BeadId,
        /// What it becomes; `None` reads.
        status: Option<BeadStatus>,
    },
    /// Closes a bead.
    BeadClose {
        /// Which; `None` is the one on the hook.
        bead_id: Option<BeadId>,
    },
    /// Sends a mail.
    MailSend {
        /// An agent's id, name or identity.
        to: String,
        /// A line.
        subject: String,
        /// The text.
        body: String,
        /// What it is about.
        mail_type: MailType,
    },
    /// Takes the mail that was not delivered yet.
    MailCheck,
    /// The branch under review may be merged.
    ReviewApprove {
        /// What was looked at.
        summary: String,
    },
    /// The branch under review must be mended first.
    ReviewRequestChanges {
        /// What is wrong, and what is expected instead.
        changes: String,
    },
    /// Sends a word that is worth nothing when it comes late.
    Nudge {
        /// An agent's id, name or identity.
        to: String,
        /// The text.
        message: String,
    },
    /// Asks for a person.
    Escalate {
        /// A line.
        title: String,
        /// The whole story.
        body: Option<String>,
        /// How much it matters.
        priority: Option<Priority>,
    },
    /// Remembers something across restarts.
    Checkpoint {
        /// Any JSON.
        data: Value,
    },
    /// The step of the bead on the hook that comes next.
    MoleculeCurrent,
    /// That step is done.
    MoleculeAdvance {
        /// What was done.
        summary: String,
    },
    /// Makes a bead and gives it to a polecat.
    Sling {
        /// A rig's id or name.
        rig: String,
        /// A line.
        title: String,
        /// The whole task.
        body: Option<String>,
        /// How much it matters.
        priority: Option<Priority>,
    },
    /// The town's rigs.
    ListRigs,
    /// Beads.
    ListBeads {
        /// A rig's id or name; `None` is all of them.
        rig: Option<String>,
        /// Only those; `None` is all of them.
        status: Option<BeadStatus>,
    },
    /// Agents.
    ListAgents {
        /// A rig's id or name; `None` is all of them.
        rig: Option<String>,
    },
}

/// Why a call was not carried out. The model reads the message, so it says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The call can't be done as it is; the same call will be refused again.
    #[error("{message}")]
    Refused {
        /// What is in the way, and what to do.
        message: String,
    },
    /// Nothing was changed, and the same call may succeed later.
    #[error("{message}. Nothing was changed; wait a little, then make the same call again")]
    Unavailable {
        /// What is missing at present.
        message: String,
    },
}
