//! What a town takes of the disk, and what is being done about it.

use super::{AgentId, RigId, Timestamp};

/// What lies in a town's workspace, as its container measured it last; one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// When it was measured; `None` if never.
    pub measured_at: Option<Timestamp>,
    /// By rig.
    pub rigs: Vec<RigDiskUse>,
    /// Everything else: homes, caches, agents without a repository.
    pub other_bytes: u64,
    /// Since when the quota holds work back.
    pub full_since: Option<Timestamp>,
    /// When worktrees that lie unused were last looked at.
    pub swept_at: Option<Timestamp>,
    /// When the container was asked to tidy up, while it is at that.
    pub asked_at: Option<Timestamp>,
    /// Tries to tidy up that failed one after another.
    pub attempts: u32,
    /// It is not asked again before this moment.
    pub due_at: Timestamp,
    /// Why the last try failed, if it did.
    pub last_error: Option<String>,
}

/// What lies in a rig's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigDiskUse {
    /// The rig.
    pub rig_id: RigId,
    /// The repository, the worktree of merges, and what is about to be deleted.
    pub repository_bytes: u64,
    /// The worktrees.
    pub worktrees: Vec<WorktreeUse>,
}

/// What lies in a worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreeUse {
    /// Its folder's name.
    pub folder: String,
    /// Whose it is; `None` of what was set aside.
    pub agent_id: Option<AgentId>,
    /// All of it.
    pub bytes: u64,
    /// How much of that are build folders that git ignores.
    pub build_bytes: u64,
}

/// A deleted agent of whom something is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The agent.
    pub agent_id: AgentId,
    /// Its rig; `None` for the mayor.
    pub rig_id: Option<RigId>,
    /// Its name, which names the folder.
    pub name: String,
    /// Tries to remove it that failed.
    pub attempts: u32,
    /// Not to be tried before this moment.
    pub due_at: Timestamp,
    /// When the container was asked, while it is at that.
    pub asked_at: Option<Timestamp>,
}

impl DiskUse {
    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let rigs = self.rigs.iter().map(RigDiskUse::bytes);
        rigs.fold(self.other_bytes, u64::saturating_add)
    }
}

impl RigDiskUse {
    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let worktrees = self.worktrees.iter().map(|worktree| worktree.bytes);
        worktrees.fold(self.repository_bytes, u64::saturating_add)
    }
}
