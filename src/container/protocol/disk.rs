//! What is said about the disk.

use serde::{Deserialize, Serialize};

use super::text;
use crate::model::{AgentId, RigId};

/// `POST /disk/tidy`: the container is to let go of what is not needed. What came of it is told in a
/// [`ContainerDisk`]; asking again while it is at that changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TidyDisk {
    /// Where to stop: first build folders go, then worktrees one by one, until less than this many
    /// bytes are used. Without it build folders stay and all of the worktrees may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// The town's rigs.
    pub rigs: Vec<TidyRig>,
}

/// A rig whose worktrees may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TidyRig {
    /// The rig.
    #[serde(with = "text")]
    pub rig_id: RigId,
    /// Its repository.
    pub git_url: String,
    /// The branch that work must be on before its worktree goes.
    pub target_branch: String,
    /// Agents whose worktrees may go, if all of their work is there; least recently used first.
    pub worktrees: Vec<TidyWorktree>,
}

/// A worktree that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TidyWorktree {
    /// Its agent.
    #[serde(with = "text")]
    pub agent_id: AgentId,
    /// Its agent's name.
    pub name: String,
}

/// What lies in the container's workspace: measured while agents work, never oftener than its cost
/// allows, and after tidying up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDisk {
    /// By rig.
    pub rigs: Vec<RigDisk>,
    /// Everything else: homes, caches, agents without a repository.
    pub other_bytes: u64,
    /// What was let go, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tidied: Option<Tidied>,
}

/// What lies in a rig's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RigDisk {
    /// The rig.
    #[serde(with = "text")]
    pub rig_id: RigId,
    /// The repository, the worktree of merges, and what is about to be deleted.
    pub repository_bytes: u64,
    /// The agents' worktrees.
    pub worktrees: Vec<WorktreeDisk>,
}

/// What lies in a worktree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorktreeDisk {
    /// Its folder's name.
    pub folder: String,
    /// All of it.
    pub bytes: u64,
    /// How much of that are build folders that git ignores.
    pub build_bytes: u64,
}

/// What tidying up came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tidied {
    /// Bytes of what is gone.
    pub freed_bytes: u64,
    /// Build folders that are gone.
    pub builds: u32,
    /// Agents whose worktree is gone.
    #[serde(with = "text::list")]
    pub removed: Vec<AgentId>,
    /// Worktrees that had to stay.
    pub kept: Vec<KeptWorktree>,
    /// What went wrong last, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A worktree that had to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptWorktree {
    /// Its agent.
    #[serde(with = "text")]
    pub agent_id: AgentId,
    /// Why.
    pub reason: String,
}
