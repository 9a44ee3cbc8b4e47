//! HTTP: from a request to one call of a room below, and back.
//!
//! `routes` is one table of method, path, scope and handler; reading it tells the whole API. A
//! request is matched, its credentials are checked against the route's scope, its body is read
//! within a bound, and only then its handler runs: wire to model, one call, model to wire.
//!
//! Invariants:
//! - Bad input ends in `extract` with a 4xx that names the field; handlers see sound values.
//! - No route answers 500 to anything a client can send; [`error`] holds the only table of codes.
//! - Every path is checked: the rig is the town's, the agent and bead the rig's, the town the
//!   user's. What is foreign is 404 and changes nothing.
//!
//! Absent on purpose: state. Whatever a request changes belongs to `town` or `agent_log`.

pub mod auth;
mod context;
mod describe;
mod error;
mod extract;
mod handlers;
mod listener;
mod once;
mod openapi;
mod query;
mod requests;
mod routes;
mod tools;
mod wire;

pub use context::State;
pub use listener::{Listener, serve};
#[doc(hidden)]
pub use routes::is_found;
pub use routes::{ROUTES, Route};
