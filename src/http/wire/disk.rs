//! What a town takes of the disk, on the wire.

use serde::Serialize;

use crate::model::{RigDiskUse, WorktreeUse};
use crate::town::DiskReport;

#[derive(Serialize)]
pub(in crate::http) struct WireDisk {
    /// `null`: never, because nothing has run yet.
    measured_at: Option<String>,
    bytes: u64,
    /// The quota; `null`: none.
    bytes_max: Option<u64>,
    /// Why nothing more is started, if that is for lack of room.
    held: Option<String>,
    /// What belongs to no rig: homes, caches, agents without a repository.
    other_bytes: u64,
    rigs: Vec<OfRig>,
    /// Why the last try to make room failed, if it did.
    last_error: Option<String>,
}

#[derive(Serialize)]
struct OfRig {
    rig_id: String,
    bytes: u64,
    repository_bytes: u64,
    worktrees: Vec<OfWorktree>,
}

#[derive(Serialize)]
struct OfWorktree {
    /// `null`: nobody's any more.
    agent_id: Option<String>,
    folder: String,
    bytes: u64,
    /// How much of `bytes` are build folders that git ignores.
    build_bytes: u64,
}

impl From<DiskReport> for WireDisk {
    fn from(report: DiskReport) -> Self {
        let DiskReport {
            disk,
            bytes_max,
            held,
        } = report;
        Self {
            measured_at: disk.measured_at.map(|at| at.to_string()),
            bytes: disk.bytes(),
            bytes_max,
            held,
            other_bytes: disk.other_bytes,
            rigs: disk.rigs.into_iter().map(OfRig::from).collect(),
            last_error: disk.last_error,
        }
    }
}

impl From<RigDiskUse> for OfRig {
    fn from(rig: RigDiskUse) -> Self {
        Self {
            rig_id: rig.rig_id.to_string(),
            bytes: rig.bytes(),
            repository_bytes: rig.repository_bytes,
            worktrees: rig.worktrees.into_iter().map(OfWorktree::from).collect(),
        }
    }
}

impl From<WorktreeUse> for OfWorktree {
    fn from(worktree: WorktreeUse) -> Self {
        Self {
            agent_id: worktree.agent_id.map(|id| id.to_string()),
            folder: worktree.folder,
            bytes: worktree.bytes,
            build_bytes: worktree.build_bytes,
        }
    }
}
