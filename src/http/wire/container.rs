//! A town's container on the wire.

use serde::Serialize;

use crate::container::protocol::Health;
use crate::model::{ContainerLife, ContainerState};

/// What the container says of itself, if one answers, and what the town knows of its life.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct WireContainer {
    /// `ok` from one that answers, and else `asleep`, `starting` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(flatten)]
    health: Option<Health>,
    state: &'static str,
    reason: Option<String>,
    since: Option<String>,
    attempts: u32,
    retry_at: Option<String>,
}

impl WireContainer {
    pub(in crate::http) fn of(life: ContainerLife, health: Option<Health>) -> Self {
        let absent = match life.state {
            ContainerState::Starting | ContainerState::Failed => life.state.as_str(),
            // One that is gone is, until the town has heard of it.
            ContainerState::Asleep | ContainerState::Ready | ContainerState::Draining => {
                ContainerState::Asleep.as_str()
            }
        };
        Self {
            status: health.is_none().then_some(absent),
            health,
            state: life.state.as_str(),
            reason: life.reason,
            since: life.since.map(|at| at.to_string()),
            attempts: life.attempts,
            retry_at: life.retry_at.map(|at| at.to_string()),
        }
    }
}
