//! Streams: WebSocket connections that follow event logs.
//!
//! A subscriber is only a cursor, the next id it wants. Who carries events to it takes the shared
//! segments behind the cursor and writes many frames with one system call: the [fan-out](Fanout) for
//! connections that have caught up, a connection's own task for all others, which reads the log from
//! disk where it must. So there is no queue per subscriber, memory per
//! subscriber is constant, and a slow reader costs nobody anything and loses nothing.
//!
//! Invariants:
//! - Ids of one subscription rise by one: none missing, none twice.
//! - A cursor is registered before its position is read, so nothing falls between backfill and
//!   live.
//! - A connection buffers at most one small read of the log; so many as [`crate::agent_log`] gives
//!   leave to buffer two large ones. It never waits longer than [`STALL_TIMEOUT`] for a socket that
//!   accepts no byte.
//!
//! Absent on purpose: who may see what (the `http` room decides before the upgrade) and what an
//! event means.

mod connection;
mod fanout;
mod message;
mod patient;
mod protocol;
mod signal;
mod subscription;
mod writer;

pub use connection::{Feeds, Leave, Options, serve};
pub use fanout::Fanout;
pub use message::{Message, MessageError, MessageReader};
pub use subscription::Frames;
pub use writer::{STALL_TIMEOUT, client_text_frame, close_frame};
