//! Agents of the Agent Client Protocol: spoken to in JSON-RPC over a program's standard streams.
//!
//! Any program that speaks ACP will do: `opencode acp`, `kilo acp`, the adapters of Claude Code, Codex
//! and Gemini. It is one process with many sessions, each in a directory of its own, as the protocol
//! means it: a process per agent would cost its 600 MB for each of them.
//!
//! [`Acp`] does what the other client does, in terms of this protocol, and [`transcript`] tells what an
//! agent does in the events that all agent servers have. So whoever uses this room knows of one kind.
//!
//! State: what the protocol leaves to the client. A session's prompts run one at a time, and those that
//! come meanwhile wait here; an ask waits here for its answer.
//!
//! Invariants:
//! - Every session that was prompted tells that it is idle, unless the program ends before.
//! - Every ask is answered: by a person, by the town's permissions, or, when the turn ends, with
//!   "cancelled".
//! - Nothing is claimed that is not done: no file system and no terminal of the client's.
//!
//! Absent on purpose: the system prompt as the protocol's own field (a draft; it is the first text of
//! the prompt instead), and the agent's history as events, which were told when it was made.

mod ask;
mod calls;
mod client;
mod models;
mod policy;
mod sessions;
mod transcript;
mod turn;
mod wire;

#[cfg(test)]
mod tests;

pub(super) use client::{Acp, Events};
pub(super) use wire::Settings;
