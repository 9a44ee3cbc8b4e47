//! Event logs: append-only, contiguous, durable before anybody sees them.
//!
//! Owner of every event's id. A [`Log`] gives ids 1, 2, 3, ... within an epoch, stores events as
//! segments of finished WebSocket frames (the log format is the wire format) and wakes its
//! watchers only after a segment is on disk. [`Logs`] holds the open logs of all agents; a town's
//! feed is a [`Log`] too, kept in the town's own tree so that facts and rows change together.
//!
//! Invariants:
//! - Ids of one log are contiguous within an epoch, and no id is given twice.
//! - [`Log::position`] and everything readable is durable.
//! - A message of a container's link is appended at most once, however often it is sent.
//! - What is kept of a log has no hole: retention removes from the front only, and the floor that
//!   readers are told is never below what is there.
//! - Memory is bounded: for each log, for all tails together, for all reads of the disk, and idle
//!   logs are closed.
//!
//! Absent on purpose: queues per reader. A reader is a cursor; see the `stream` room.

mod answers;
mod frame;
mod log;
mod logs;
mod overdue;
mod reads;
mod segment;
mod tail;

pub use frame::{EventView, Subject, frames_in, text_frame, text_payload};
pub use log::{
    AppendError, Appended, Expired, Keep, Log, Look, NewEvent, Position, Staged, WatchId, Watcher,
};
pub use logs::Logs;
pub use reads::{LARGE_BYTES, LargeRead};
pub use segment::{Segment, Slice};
pub use tail::TailLimits;
