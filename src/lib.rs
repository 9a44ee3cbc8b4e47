#![doc = include_str!("ARCHITECTURE.md")]

pub mod clock;
pub mod lifecycle;
pub mod model;
pub mod storage;
pub mod telemetry;

pub mod sdk;

pub mod config;
pub mod container;
pub mod mcp;

pub mod cli;
