//! Duty: people hear of asks that nobody answers and of escalations that nobody takes up.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AskId, BeadId, Timestamp};
use crate::storage::Tree;
use crate::town::refusal::Error;
use crate::town::{asks, escalations};

use super::{Action, Live, Planner, View};

/// What waits for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct Attention {
    /// Asks that are neither answered nor escalated.
    pub(in crate::town) asks: Vec<AskSeen>,
    /// Escalations that nobody has taken up.
    pub(in crate::town) unattended: Vec<UnattendedSeen>,
}

/// What the reconciler sees of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct AskSeen {
    #[serde(with = "text")]
    pub(in crate::town) ask_id: AskId,
    /// When it is to become an escalation.
    #[serde(with = "text")]
    pub(in crate::town) escalates_at: Timestamp,
}

/// What the reconciler sees of an escalation that nobody has taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::town) struct UnattendedSeen {
    #[serde(with = "text")]
    pub(in crate::town) bead_id: BeadId,
    /// When it is to be raised again; `None` if it was often enough.
    #[serde(with = "text::option")]
    pub(in crate::town) again_at: Option<Timestamp>,
    /// Whether the notification hook has not heard of it and is not about to.
    pub(in crate::town) to_notify: bool,
}

pub(super) fn observe(tree: &Tree, live: &Live) -> Result<Attention, Error> {
    let asks = asks::all(tree)?;
    let asks = asks.iter().filter_map(|ask| {
        Some(AskSeen {
            ask_id: ask.ask_id,
            escalates_at: asks::escalates_at(ask, live.ask_patience)?,
        })
    });
    let unattended = escalations::unattended(tree)?;
    let unattended = unattended.iter().map(|raised| UnattendedSeen {
        bead_id: raised.bead_id,
        again_at: escalations::raised_again_at(raised),
        to_notify: raised.notify && !live.being_notified.contains(&raised.bead_id),
    });
    Ok(Attention {
        asks: asks.collect(),
        unattended: unattended.collect(),
    })
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for ask in &view.attention.asks {
        if planner.is_due(ask.escalates_at) {
            let ask_id = ask.ask_id;
            planner.act(
                Action::EscalateAsk { ask_id },
                "nobody has answered it in time",
            );
        }
    }
    for seen in &view.attention.unattended {
        let bead_id = seen.bead_id;
        if seen.to_notify {
            let why = "the notification hook has not heard of it";
            planner.act(Action::Notify { bead_id }, why);
        }
        if seen.again_at.is_some_and(|at| planner.is_due(at)) {
            planner.act(Action::RaiseAgain { bead_id }, "nobody has taken it up");
        }
    }
}
