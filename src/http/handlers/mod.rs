//! Handlers: wire to model, one call, model to wire.

pub(super) mod agents;
pub(super) mod asks;
pub(super) mod beads;
pub(super) mod container;
pub(super) mod convoys;
pub(super) mod dependencies;
pub(super) mod escalations;
pub(super) mod events;
pub(super) mod ledger;
pub(super) mod mail;
pub(super) mod mayor;
pub(super) mod mayor_tools;
pub(super) mod mcp;
pub(super) mod metrics;
pub(super) mod molecules;
pub(super) mod page;
pub(super) mod reviews;
pub(super) mod rigs;
pub(super) mod scheduler;
pub(super) mod session;
pub(super) mod stream;
pub(super) mod system;
pub(super) mod tokens;
pub(super) mod towns;
