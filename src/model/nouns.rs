//! The rows of a town.

use std::fmt;
use std::str::FromStr;

use super::{
    AgentId, BeadId, Dependency, Json, MailId, MoleculeId, RigId, Timestamp, TownId, UserId,
};

/// A name on the wire that no variant has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {allowed}")]
pub struct UnknownVariant {
    /// The names that are allowed, joined by commas.
    pub allowed: &'static str,
}

/// An enum with the names that its variants have on the wire.
macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident [$allowed:literal] { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownVariant;

            fn from_str(text: &str) -> Result<Self, UnknownVariant> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|variant| variant.as_str() == text)
                    .ok_or(UnknownVariant { allowed: $allowed })
            }
        }
    };
}

pub(super) use named_enum;

named_enum! {
    /// What a bead is.
    BeadType ["issue, message, escalation, merge_request, convoy, molecule, agent"] {
        /// Work for a polecat.
        Issue = "issue",
        /// A note.
        Message = "message",
        /// Something a person must look at.
        Escalation = "escalation",
        /// A branch that waits to be merged.
        MergeRequest = "merge_request",
        /// A batch of beads.
        Convoy = "convoy",
        /// A bead's ordered steps.
        Molecule = "molecule",
        /// An agent's own bead.
        Agent = "agent",
    }
}

named_enum! {
    /// Where a bead stands. `Closed` and `Failed` are terminal.
    BeadStatus ["open, in_progress, closed, failed"] {
        /// Nobody works on it.
        Open = "open",
        /// On an agent's hook, or waiting for its merge.
        InProgress = "in_progress",
        /// Finished.
        Closed = "closed",
        /// Given up, with a reason in its events.
        Failed = "failed",
    }
}

impl BeadStatus {
    /// Whether only an explicit reopen may change it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Closed | Self::Failed)
    }
}

named_enum! {
    /// How much a bead matters; ordered from low to critical.
    Priority ["low, medium, high, critical"] {
        /// When there is nothing better to do.
        Low = "low",
        /// The default.
        Medium = "medium",
        /// Before the others.
        High = "high",
        /// At once.
        Critical = "critical",
    }
}

named_enum! {
    /// What an agent is for.
    AgentRole ["polecat, refinery, mayor, witness"] {
        /// A worker.
        Polecat = "polecat",
        /// Reviews and merges.
        Refinery = "refinery",
        /// The coordinator people talk to.
        Mayor = "mayor",
        /// Watches the health of the others.
        Witness = "witness",
    }
}

named_enum! {
    /// What an agent is doing.
    AgentStatus ["idle, working, waiting, stalled, dead"] {
        /// Nothing runs for it.
        Idle = "idle",
        /// Its session runs.
        Working = "working",
        /// It asked a person something.
        Waiting = "waiting",
        /// It has shown no activity for too long.
        Stalled = "stalled",
        /// It will not run again.
        Dead = "dead",
    }
}

named_enum! {
    /// Where a branch stands on its way to the target branch.
    ReviewStatus ["pending, running, merged, failed, conflict, in_review, waiting, rework"] {
        /// In the queue.
        Pending = "pending",
        /// A merge is under way, with its gates.
        Running = "running",
        /// Proven to be on the target branch.
        Merged = "merged",
        /// The merge could not be done; its message says why.
        Failed = "failed",
        /// The branch conflicts with the target, and nobody could mend that.
        Conflict = "conflict",
        /// On the refinery's hook.
        InReview = "in_review",
        /// Waits for a person's approval.
        Waiting = "waiting",
        /// Back with a polecat, to be mended.
        Rework = "rework",
    }
}

impl ReviewStatus {
    /// Every status of a review that is not finished.
    pub const UNFINISHED: &'static [Self] = &[
        Self::Pending,
        Self::Running,
        Self::InReview,
        Self::Waiting,
        Self::Rework,
    ];

    /// Whether nothing will happen to the review any more.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Merged | Self::Failed | Self::Conflict)
    }
}

named_enum! {
    /// Who has approved a branch; each also counts as those before it.
    Approval ["none, refinery, person"] {
        /// Nobody yet.
        None = "none",
        /// The rig's refinery agent.
        Refinery = "refinery",
        /// A person.
        Person = "person",
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "the macro that makes it has no default variant"
)]
impl Default for Approval {
    fn default() -> Self {
        Self::None
    }
}

named_enum! {
    /// What a mail is about, for programs.
    MailType ["message, POLECAT_DONE, MERGE_READY, MERGED, MERGE_FAILED, REWORK_REQUEST, GUPP_CHECK, HELP, HANDOFF, NUDGE"] {
        /// Whatever people and agents write to each other.
        Message = "message",
        /// To the witness: a polecat has handed in its work.
        PolecatDone = "POLECAT_DONE",
        /// To the refinery: a branch waits for its review.
        MergeReady = "MERGE_READY",
        /// To the mayor and the author: a branch is proven to be on the target.
        Merged = "MERGED",
        /// To the mayor and the author: a branch will not be merged.
        MergeFailed = "MERGE_FAILED",
        /// To a polecat: a branch must be mended before it can be merged.
        ReworkRequest = "REWORK_REQUEST",
        /// To an agent that has shown no activity for long.
        GuppCheck = "GUPP_CHECK",
        /// From an agent that can't go on; a person is called, too.
        Help = "HELP",
        /// From an agent to whoever goes on with its work, mostly itself in its next session.
        Handoff = "HANDOFF",
        /// A word with a time to live: worth nothing when it comes late.
        Nudge = "NUDGE",
    }
}

impl MailType {
    /// What people and agents may send; every other type says that the town did something.
    pub const FREE: &[Self] = &[Self::Message, Self::Help, Self::Handoff];
}

#[expect(
    clippy::derivable_impls,
    reason = "the macro that makes it has no default variant"
)]
impl Default for MailType {
    fn default() -> Self {
        Self::Message
    }
}

impl MailType {
    /// Whether such a mail is worth starting a session that does not run. The others wait for one.
    #[must_use]
    pub const fn wakes(self) -> bool {
        !matches!(self, Self::PolecatDone | Self::Merged | Self::Handoff)
    }
}

named_enum! {
    /// What an agent waits for.
    AskKind ["permission, question"] {
        /// Leave to do something.
        Permission = "permission",
        /// An answer.
        Question = "question",
    }
}

/// A town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Town {
    /// Its id.
    pub town_id: TownId,
    /// 1 to 64 characters.
    pub name: String,
    /// Who owns it.
    pub owner_user_id: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Whether dispatch and merges of all its rigs are held.
    pub paused: bool,
}

/// A git repository of a town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rig {
    /// Its id.
    pub rig_id: RigId,
    /// The town it belongs to.
    pub town_id: TownId,
    /// 1 to 64 characters, unique in the town.
    pub name: String,
    /// Where the repository is.
    pub git_url: String,
    /// The branch that finished work is merged into.
    pub default_branch: String,
    /// A link to a hosting platform, kept for older clients.
    pub platform_integration_id: Option<String>,
    /// The rig's own gateway token; never shown.
    pub kilocode_token: Option<String>,
    /// Whether dispatch and merges of this rig are held.
    pub paused: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A unit of work, or something else that people and agents talk about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bead {
    /// Its id.
    pub bead_id: BeadId,
    /// Its place in the town's order of creation.
    pub seq: u64,
    /// What it is.
    pub bead_type: BeadType,
    /// Where it stands.
    pub status: BeadStatus,
    /// A line.
    pub title: String,
    /// The whole text.
    pub body: Option<String>,
    /// The rig it belongs to; `None` for the town's own.
    pub rig_id: Option<RigId>,
    /// The bead it is a part of.
    pub parent_bead_id: Option<BeadId>,
    /// The agent it is assigned to; while that agent has it on its hook, at most one.
    pub assignee_agent_id: Option<AgentId>,
    /// How much it matters.
    pub priority: Priority,
    /// Free labels.
    pub labels: Vec<String>,
    /// Whatever its creator attached; a JSON object.
    pub metadata: Json,
    /// Who made it.
    pub created_by: Option<String>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// The convoy it travels in.
    pub convoy_id: Option<BeadId>,
    /// Its steps, if it has some.
    pub molecule_id: Option<MoleculeId>,
    /// The beads it depends on, in the order in which they were added.
    pub dependencies: Vec<Dependency>,
    /// How many of those block it and are not closed.
    pub blockers_open: u32,
    /// Whether it was slung: while it is open, the scheduler finds a polecat for it.
    pub slung: bool,
}

impl Bead {
    /// Whether nothing that it needs first is left to do.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.blockers_open == 0
    }
}

/// The scheduler's notes on an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    /// Tries to start the present hook's work.
    pub attempts: u32,
    /// Not to be dispatched before this moment.
    pub due_at: Timestamp,
    /// When the container was last asked to start it.
    pub requested_at: Option<Timestamp>,
    /// The agent server's session, to be resumed after a restart.
    pub session_id: Option<String>,
    /// The bead that session was begun for.
    pub session_bead_id: Option<BeadId>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Reminders sent because it stopped without calling done.
    pub reminders: u32,
    /// Why its run was given up, while that run still ends.
    pub given_up: Option<String>,
    /// When the patrol last asked it whether it still works.
    pub checked_at: Option<Timestamp>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id, and the name of its event log.
    pub agent_id: AgentId,
    /// Its place in the town's order of creation.
    pub seq: u64,
    /// The rig it works in; `None` for the mayor.
    pub rig_id: Option<RigId>,
    /// What it is for.
    pub role: AgentRole,
    /// A short name for people.
    pub name: String,
    /// Unique in the town.
    pub identity: String,
    /// What it is doing.
    pub status: AgentStatus,
    /// The bead on its hook.
    pub hook: Option<BeadId>,
    /// The scheduler's notes.
    pub dispatch: Dispatch,
    /// When it last did something.
    pub last_activity_at: Option<Timestamp>,
    /// What it wants to remember across restarts; any JSON.
    pub checkpoint: Option<Json>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A mail between agents; `from` is free text so that the system can write too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its id.
    pub mail_id: MailId,
    /// Its place in the town's order.
    pub seq: u64,
    /// Who sent it.
    pub from_agent_id: String,
    /// Who is to get it.
    pub to_agent_id: AgentId,
    /// A line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was handed over.
    pub delivered_at: Option<Timestamp>,
    /// What it is about.
    pub mail_type: MailType,
    /// A nudge is not handed over after this moment.
    pub expires_at: Option<Timestamp>,
    /// A nudge is about what its receiver had on its hook when it was sent; worth nothing later.
    pub about_bead_id: Option<BeadId>,
    /// Why it was dropped instead of handed over.
    pub dropped: Option<String>,
}

/// What a merge request carries beyond its bead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The merge request's own bead.
    pub entry_id: BeadId,
    /// Its place in the town's order of creation.
    pub seq: u64,
    /// The rig whose default branch is the target.
    pub rig_id: RigId,
    /// The work that the branch holds.
    pub source_bead_id: BeadId,
    /// Who made the branch.
    pub agent_id: AgentId,
    /// The branch.
    pub branch: String,
    /// A pull request on a hosting platform, if there is one.
    pub pr_url: Option<String>,
    /// What the agent says of it.
    pub summary: Option<String>,
    /// Where it stands.
    pub status: ReviewStatus,
    /// Tries to merge.
    pub attempts: u32,
    /// Not to be tried before this moment.
    pub due_at: Timestamp,
    /// When the running merge was asked for.
    pub started_at: Option<Timestamp>,
    /// What the merge said last.
    pub message: Option<String>,
    /// The commit on the target that holds the branch.
    pub commit_sha: Option<String>,
    /// How often it went back to a polecat.
    pub reworks: u32,
    /// Who has approved the branch as it is now.
    pub approval: Approval,
    /// What the approver said.
    pub approval_note: Option<String>,
    /// Whether the refinery could not come to a verdict, so that a person must.
    pub refinery_failed: bool,
    /// The branch's commit, to which its approvals are bound; `None` before the container has
    /// looked, which it does only where approvals are asked for.
    pub head_sha: Option<String>,
}
