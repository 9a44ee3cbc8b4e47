//! What wants a person: asks that nobody answers, escalations that nobody takes up, and the
//! notification hook.

use std::time::Duration;

use crate::model::{Ask, BeadId, Raised};
use crate::town::{asks, escalations};

use super::{Action, Planner, View};

/// What waits for people.
#[derive(Clone, Debug, Default)]
pub(in crate::town) struct Attention {
    /// What agents ask.
    pub(in crate::town) asks: Vec<Ask>,
    /// Escalations that nobody has taken up.
    pub(in crate::town) unattended: Vec<Raised>,
    /// Escalations for which the hook runs or waits.
    pub(in crate::town) being_notified: Vec<BeadId>,
    /// How long an ask may wait.
    pub(in crate::town) ask_patience: Duration,
}

impl Planner {
    pub(super) fn attention(&mut self, view: &View) {
        let Attention {
            asks,
            unattended,
            being_notified,
            ask_patience,
        } = &view.attention;
        for ask in asks {
            if asks::escalates_at(ask, *ask_patience).is_some_and(|at| self.is_due(at)) {
                self.actions.push(Action::EscalateAsk(ask.ask_id));
            }
        }
        for raised in unattended {
            if raised.notify && !being_notified.contains(&raised.bead_id) {
                self.actions.push(Action::Notify(raised.bead_id));
            }
            if escalations::raised_again_at(raised).is_some_and(|at| self.is_due(at)) {
                self.actions.push(Action::RaiseAgain(raised.bead_id));
            }
        }
    }
}
