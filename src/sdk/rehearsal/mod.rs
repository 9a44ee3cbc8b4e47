//! The rehearsal: a built-in agent server that plays scripts.
//!
//! It speaks the same HTTP and event protocol as opencode on a loopback port of this process, so
//! everything above it runs as with a real one: the same client, the same events in the same
//! order, real files, real `git`, real tool calls over MCP. Only the model is missing: what it does
//! next is said by a script.
//!
//! The script of a turn comes from what it is asked ([`casting`]): a polecat with a bead on its
//! hook writes a file, commits, pushes and says that it is done; everyone else answers politely.
//! A bead or a message may direct it with lines of a small language, see [`script`].
//!
//! State: sessions and their messages, in memory, owned by [`stage::Stage`]. A turn is one task.
//!
//! Absent on purpose: a model, a shell (a directive runs `git` and nothing else), and sessions that
//! outlive the process.

mod casting;
mod event_body;
mod mending;
mod performance;
mod player;
mod polecat;
mod record;
mod refinery;
mod routes;
mod script;
mod server;
mod stage;
mod tool_server;
mod tools;

pub(super) use server::{Rehearsal, Settings, USER, pace_in};
