#![doc = include_str!("ARCHITECTURE.md")]

// Ground: used by everything, uses nothing.
pub mod clock;
pub mod config;
pub mod lifecycle;
pub mod model;
pub mod telemetry;

// From the disk upward; a room uses only rooms above it in this list.
pub mod storage;

pub mod agent_log;

pub mod stream;

pub mod sdk;

pub mod container;

pub mod notify;

pub mod town;

pub mod mcp;

pub mod dashboard;

pub mod http;

pub mod server;

pub mod cli;
