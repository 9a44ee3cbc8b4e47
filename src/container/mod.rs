//! The container of a town: the process that runs its agents, and the server's hold on it.
//!
//! [`control_server::run`] is the container process; [`protocol`] is all that crosses its socket,
//! shared with the server's side. [`isolation`] says how the process is walled in, [`prompts`] what
//! its agents are told, [`credential_helper`] is the small program that git asks for tokens.
//!
//! State: the container owns the workspace (repositories, worktrees, the agent server's home), its
//! agents and their agent server, and what the server has not acknowledged yet. It has no database:
//! what must survive it, the server has written down.
//!
//! Invariants: every accepted start ends in exactly one `agent.exited`, every merge in one
//! `agent.merge`; no event is lost or told twice within one epoch; secrets are in memory only.
//!
//! Absent on purpose: decisions. What to start, when and how often is the town's business.

mod agent_config;
mod client;
pub mod control_server;
pub mod credential_helper;
mod error;
mod fleet;
pub mod git;
pub mod isolation;
mod launch;
mod launcher;
pub mod limits;
pub mod prompts;
pub mod protocol;
mod reading;
mod relay;
mod supervisor;
mod wire;
mod workspace;

pub use client::CallError;
pub use error::Error;
pub use isolation::Isolation;
pub use launch::LaunchOptions;
pub use limits::Limits;
pub use protocol::ExitKind;
pub use relay::{AgentReport, Asked, ContainerReport, LinkState, LinkTarget, MergeReport};
pub use supervisor::ContainerHandle;
