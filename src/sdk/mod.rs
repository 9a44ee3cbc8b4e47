//! Agent servers: start one, talk to it, hear its events, and leave nothing of it behind.
//!
//! An *agent server* is a program that runs AI coding agents and speaks opencode's HTTP protocol:
//! opencode itself, Kilo, or the built-in `rehearsal`, which plays scripts and needs no model.
//! [`create_agent_server`] starts one and waits until it is ready; [`AgentServer::client`] is the
//! typed client of all three; [`Client::subscribe`] is the stream of typed events.
//!
//! State: this room owns the process (through [`guard`]) and nothing else. Sessions and messages
//! belong to the agent server, which keeps them on disk in its private home.
//!
//! Invariants:
//! - When the owner of an [`AgentServer`] ends, in any way, the program and everything that it ever
//!   started end too.
//! - Every call is limited in time, and every error says in words what a person can do about it.
//! - An event's properties are the bytes that the agent server sent, never encoded again.
//!
//! Absent on purpose: reconnecting, retrying and restarting (the container decides those), and any
//! knowledge of towns, rigs or beads.

mod client;
mod connection;
mod environment;
mod error;
mod event;
pub mod guard;
mod kind;
mod output;
mod process;
mod rehearsal;
mod server;
mod sessions;
mod wire;

pub use client::{Client, McpServer, PermissionReply};
pub use error::Error;
pub use event::{Event, EventStream};
pub use kind::{AgentServerKind, UnknownKind};
pub use server::{AgentServer, AgentServerOptions, READY_TIMEOUT, ServerExit, create_agent_server};
pub use sessions::{ModelRef, Prompt, SessionId, Sessions};
