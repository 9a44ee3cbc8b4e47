//! Duty: the container runs while something needs it.

use serde::{Deserialize, Serialize};

use crate::container::LinkState;

use super::{Action, Planner, View};

/// What is known of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::town) enum Container {
    Asleep,
    Waking,
    Up,
}

impl Container {
    pub(in crate::town) fn of(state: &LinkState) -> Self {
        match state {
            LinkState::Up { .. } => Self::Up,
            LinkState::Down { .. } | LinkState::StartFailed { .. } => Self::Asleep,
        }
    }
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    if view.container != Container::Asleep {
        return;
    }
    if let Some(why) = planner.needs_container.take() {
        planner.act(Action::WakeContainer, why);
    }
}
