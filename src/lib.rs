#![doc = include_str!("ARCHITECTURE.md")]

pub mod agent_log;
pub mod clock;
pub mod lifecycle;
pub mod model;
pub mod storage;
pub mod stream;

pub mod sdk;

pub mod config;
pub mod container;
pub mod mcp;
