//! The agents of one container, and the agent server they share.
//!
//! One actor owns all of it: [`FleetHandle`] is the room's API, the private `Command` enum tells all
//! that can happen, and nothing that takes long runs in the actor itself: clones, starts, prompts
//! and merges are tasks whose results come back as commands. The actor alone appends to the spool,
//! so what it says is in the order in which it happened.
//!
//! Invariants: exactly one `agent.exited` follows every accepted start; at most one agent server
//! runs, and none that nobody waits for outlives the fleet; an event is forwarded only for the agent
//! that owns its session or works in its directory; two idle events in a row are one.
//!
//! Absent on purpose: restarts. The server's dispatcher decides whether and when an agent that ended
//! is started again.

mod actor;
mod agent;
mod asks;
mod command;
mod drain;
mod ending;
mod events;
mod handle;
mod limits;
mod merges;
mod model_watch;
mod observation;
mod processes;
mod prompting;
mod recycling;
mod server;
mod serving;
mod start;
mod stats;
mod turns;

#[cfg(test)]
mod tests;

pub(crate) use actor::{Fleet, FleetOptions};
pub(crate) use command::Denied;
pub(crate) use handle::FleetHandle;
