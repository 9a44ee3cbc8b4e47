//! The git program, as the container uses it.
//!
//! One [`Repository`] per rig: a bare clone, one worktree per agent and one for merges. The calls
//! that the container makes on one repository are serialised by its lock; agents run git beside
//! them in their own worktrees, which git's own ref locks make safe, so calls that meet such a lock
//! are tried again.
//!
//! Invariants: no call waits for a terminal or longer than its limit; no argument that came from
//! outside can be taken for an option; no credential is ever in an argument, a remote or a file;
//! and nothing that an agent made is dropped: uncommitted work is saved under `gastown/wip/`, a
//! removed agent's under `refs/gastown/archive/`, and a branch is deleted only when the remote's
//! target is proven to contain it.
//!
//! Absent on purpose: a git library, hooks of the host, and any cleverness about conflicts.

mod address;
mod command;
mod environment;
mod gates;
mod merge;
mod repository;
mod sample;
mod ssh;
mod worktree;

#[cfg(test)]
mod tests;

pub use address::{AllowedRepositories, BranchName, GitUrl};
pub use command::Git;
pub(crate) use command::is_unreachable;
pub use environment::{CREDENTIAL_SOCKET_VARIABLE, GitEnvironment, Identity};
pub(super) use environment::{PROXIES, TRUST};
pub use gates::Gates;
pub use merge::{Approved, MergeOutcome, MergeTask};
pub use repository::Repository;
pub use sample::{SAMPLE_BRANCH, make_sample};
pub(crate) use ssh::SshFiles;
pub use worktree::{Worktree, WorktreeTask};
