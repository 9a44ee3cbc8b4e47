//! Duty: slung beads that wait get a polecat as soon as one is free.

use serde::{Deserialize, Serialize};

use crate::config::TownConfig;
use crate::container::protocol::text;
use crate::model::{Agent, BeadId, RigId};
use crate::storage::{AgentByRig, AgentKey, BeadSlung, Tree};
use crate::town::queue::Polecats;
use crate::town::refusal::Error;

use super::{Action, Planner, View};

/// A rig in which slung beads wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct QueueSeen {
    #[serde(with = "text")]
    pub(in crate::town) rig_id: RigId,
    /// Those that can be given out now, first the most urgent, then the oldest; no more than
    /// there are polecats for.
    #[serde(with = "text::list")]
    pub(in crate::town) next: Vec<BeadId>,
}

pub(super) fn observe(tree: &Tree, config: &TownConfig) -> Result<Vec<QueueSeen>, Error> {
    let mut queues = Vec::new();
    let mut first = tree.first_key(&BeadSlung::all(), None)?;
    while let Some(BeadSlung { rig_id, .. }) = first {
        let free = polecats(tree, rig_id, config)?.free();
        let mut next = Vec::new();
        for row in tree.scan(&BeadSlung::of_rig(rig_id)).take(free) {
            next.push(row?.1.id);
        }
        queues.push(QueueSeen { rig_id, next });
        first = tree.first_key(&BeadSlung::all(), Some(&BeadSlung::of_rig(rig_id)))?;
    }
    Ok(queues)
}

fn polecats(tree: &Tree, rig_id: RigId, config: &TownConfig) -> Result<Polecats, Error> {
    let mut agents: Vec<Agent> = Vec::new();
    for row in tree.scan(&AgentByRig::of_rig(rig_id)) {
        let agent_id = row?.1.id;
        agents.extend(tree.get(&AgentKey { agent_id })?);
    }
    Ok(Polecats::of(agents.iter(), config.max_polecats(rig_id)))
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    let no_budget = view.holds.budget_reached(planner.now).is_some();
    for queue in &view.queues {
        planner.work();
        if no_budget || view.holds.holds(Some(queue.rig_id)) {
            continue;
        }
        // A branch that must be mended waits for a polecat, too, and its work is nearly done.
        let kept = super::reviews::waiting_for_a_polecat(view, queue.rig_id);
        let given_out = queue.next.len().saturating_sub(kept);
        for bead_id in queue.next.iter().take(given_out) {
            planner.act(
                Action::Assign { bead_id: *bead_id },
                "it was slung, it is ready and a polecat is free",
            );
        }
    }
}
