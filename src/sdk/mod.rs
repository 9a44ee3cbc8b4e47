//! Agent servers: start one, talk to it, hear its events, and leave nothing of it behind.
//!
//! An *agent server* is a program that runs AI coding agents. opencode, Kilo and the built-in
//! `rehearsal`, which plays scripts and needs no model, speak opencode's HTTP protocol; any other
//! program can be used that speaks the Agent Client Protocol ([`acp`]). [`create_agent_server`] starts
//! one and waits until it is ready; [`AgentServer::client`] is the typed client of all of them;
//! [`Client::subscribe`] is the stream of typed events.
//!
//! State: this room owns the process (through [`guard`]) and nothing else. Sessions and messages
//! belong to the agent server, which keeps them on disk in its private home.
//!
//! Invariants:
//! - When the owner of an [`AgentServer`] ends, in any way, the program and everything that it ever
//!   started end too.
//! - Every call is limited in time, and every error says in words what a person can do about it.
//! - An event's properties are the bytes that the agent server sent, never encoded again; but those of
//!   the Agent Client Protocol, which has other ones, are made here.
//!
//! Absent on purpose: reconnecting, retrying and restarting (the container decides those), and any
//! knowledge of towns, rigs or beads.

mod acp;
mod client;
mod connection;
mod environment;
mod error;
mod event;
pub mod guard;
mod identifiers;
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
