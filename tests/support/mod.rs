//! What tests stand on: real repositories, loopback servers that play a part, agent servers.

pub(crate) mod agent_server;
pub(crate) mod case;
pub(crate) mod container;
pub(crate) mod dice;
pub(crate) mod facts;
pub(crate) mod git_host;
pub(crate) mod loopback;
pub(crate) mod mark;
pub(crate) mod middleman;
pub(crate) mod program;
pub(crate) mod raw_socket;
pub(crate) mod repository;
pub(crate) mod samples;
pub(crate) mod scripted_model;
pub(crate) mod server;
pub(crate) mod system_trace;
pub(crate) mod tool_server;
pub(crate) mod world;
