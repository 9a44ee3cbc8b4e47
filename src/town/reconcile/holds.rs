//! What may not be started for now, and why.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::RigId;
use crate::storage::{RigKey, Tree};
use crate::town::refusal::Error;

/// Everything that holds work back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct Holds {
    /// Rigs that a person has paused.
    #[serde(with = "text::list")]
    pub(in crate::town) rigs: Vec<RigId>,
}

impl Holds {
    /// Whether nothing of that rig may be started.
    pub(super) fn hold(&self, rig_id: Option<RigId>) -> bool {
        rig_id.is_some_and(|rig_id| self.rigs.contains(&rig_id))
    }
}

pub(super) fn observe(tree: &Tree) -> Result<Holds, Error> {
    let mut holds = Holds::default();
    for row in tree.scan(&RigKey::all()) {
        let (_, rig) = row?;
        if rig.paused {
            holds.rigs.push(rig.rig_id);
        }
    }
    Ok(holds)
}
