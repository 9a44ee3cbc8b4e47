//! The life of a town's container, as the town knows it.

use std::fmt;
use std::str::FromStr;

use super::nouns::named_enum;
use super::{Epoch, Timestamp, UnknownVariant};

named_enum! {
    /// What a town's container is doing.
    ContainerState ["asleep, starting, ready, draining, failed"] {
        /// There is none, and nothing needs one.
        Asleep = "asleep",
        /// It was asked for and does not answer yet.
        Starting = "starting",
        /// It does what it is asked.
        Ready = "ready",
        /// It takes nothing new, saves its agents' work and ends.
        Draining = "draining",
        /// It could not be started.
        Failed = "failed",
    }
}

/// A town's container; one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLife {
    /// What it is doing.
    pub state: ContainerState,
    /// Why: what it was started for, why it drains, how it ended, the error's text.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// The newest process's life.
    pub epoch: Option<Epoch>,
    /// Starts that failed one after another.
    pub attempts: u32,
    /// When one that failed is started again by itself; `None` where a person must ask.
    pub retry_at: Option<Timestamp>,
    /// Since when nothing needs the one that runs; `None` while something does.
    pub idle_since: Option<Timestamp>,
    /// Whether the mayor's session is to be made with it, before anybody speaks to the mayor.
    pub calls_mayor: bool,
}

impl Default for ContainerLife {
    /// Of a town that never had one.
    fn default() -> Self {
        Self {
            state: ContainerState::Asleep,
            reason: None,
            since: None,
            epoch: None,
            attempts: 0,
            retry_at: None,
            idle_since: None,
            calls_mayor: false,
        }
    }
}
