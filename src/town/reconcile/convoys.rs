//! Duty: a convoy whose beads are all closed has landed. The transition that closes the last bead
//! lands it in the same batch; this is the net below that.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{BeadId, BeadStatus, BeadType};
use crate::storage::{ConvoyKey, NO_RIG, Tree};
use crate::town::bead_lists;
use crate::town::refusal::Error;

use super::{Action, Planner, View};

/// A convoy that should have landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::town) struct LandingDue {
    #[serde(with = "text")]
    pub(in crate::town) convoy_id: BeadId,
}

/// Looks at the convoys that are under way.
pub(super) fn observe(tree: &Tree) -> Result<Vec<LandingDue>, Error> {
    let mut due = Vec::new();
    let under_way = bead_lists::of_type(tree, NO_RIG, BeadType::Convoy, Some(BeadStatus::Open));
    for convoy_id in under_way {
        let convoy_id = convoy_id?;
        let convoy = tree.get(&ConvoyKey { convoy_id })?;
        if convoy.is_some_and(|convoy| convoy.landed_at.is_none() && convoy.is_complete()) {
            due.push(LandingDue { convoy_id });
        }
    }
    Ok(due)
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    for LandingDue { convoy_id } in &view.landings {
        let convoy_id = *convoy_id;
        planner.act(
            Action::LandConvoy { convoy_id },
            "every bead of the convoy is closed",
        );
    }
}
