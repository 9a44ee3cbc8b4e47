//! The agents' tools: a Model Context Protocol server named `gt`.
//!
//! An agent server reaches [`handle`] at `/mcp/<agentId>` over streamable HTTP, after `http` has
//! checked the agent's token. It is stateless: each request is answered by itself with one JSON
//! body, so nothing is lost when the server restarts and nothing is kept here. What the tools do is
//! behind [`AgentTools`], which the rooms above implement; this room owns their names, their
//! descriptions, their argument schemas, and which role has which tool.
//!
//! Invariants:
//! - An [`AgentTools`] sees only calls that the agent's role has, with every argument parsed.
//! - Whatever a model does wrong comes back as a tool result (`isError`) whose text says how to go
//!   on, because agent servers show protocol errors to their models badly or not at all.
//!
//! Absent on purpose: sessions, server-sent events, resources and prompts; none is needed for tools
//! and each would be state.

mod arguments;
mod call;
mod catalogue;
mod endpoint;
mod service;

pub use call::{AgentTools, ToolCall, ToolError};
pub use endpoint::handle;

#[cfg(test)]
mod tests;
