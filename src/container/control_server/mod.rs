//! The control server of a container: HTTP and one WebSocket on a unix socket, or on TCP.
//!
//! It is the whole of `gastownd container`, one process per town, and outlives the server's restarts.
//! This room owns the socket, the newest config of the town (in memory only: it holds secrets) and
//! the spool of what the server has not acknowledged; it hands the config's ssh key to an `ssh-agent`. What the requests do is the
//! [`fleet`](super::fleet)'s business.
//!
//! Invariants: only the user of the process can open the socket, and on TCP only who shows the token
//! is answered; a socket that answers is never replaced; at most one link is live and a new one replaces it; a message leaves the spool only
//! when the server acknowledged it, so a link that breaks loses nothing and repeats nothing.
//!
//! Absent on purpose: users and scopes (there is one server), and any state on disk.

mod credentials;
mod link;
mod listener;
mod requests;
mod routes;
mod run;
mod socket;
mod spool;
mod ssh;
mod town_config;

#[cfg(test)]
mod tests;

pub(crate) use link::Links;
pub use run::{ContainerOptions, TcpOptions, run};
pub(crate) use spool::Spool;
