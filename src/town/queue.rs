//! Transitions of slung beads: who slings says what is to be done, the town finds who does it.
//!
//! A slung bead that can't be given to a polecat at once stays open and waits; the reconciler hooks
//! it when a polecat is free, its blockers are closed and nothing holds the rig.

use crate::model::{Agent, AgentRole, Bead, BeadId, BeadStatus, BeadType, RigId};
use crate::storage::BeadSlung;

use super::command::{NewBead, SlingOrder, Slung};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};
use super::{agents, beads, budget, container};

/// Makes a bead and gives it to a polecat; where that can't be now, the bead waits.
pub(super) fn sling(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    order: SlingOrder,
) -> Result<Slung, Error> {
    container::asked_for(draft)?;
    let mut bead = beads::create(
        draft,
        Some(rig_id),
        NewBead {
            bead_type: BeadType::Issue,
            title: order.title,
            body: order.body,
            priority: order.priority,
            labels: Vec::new(),
            metadata: order.metadata,
            assignee_agent_id: None,
            parent_bead_id: None,
            created_by: order.created_by,
            convoy_id: None,
            depends_on: Vec::new(),
        },
    )?;
    bead.slung = true;
    draft.set_bead(bead.clone())?;
    // Whoever waits already comes first, by rank and age: the reconciler sees to that.
    let others_wait = draft
        .tree
        .first_key(&BeadSlung::of_rig(rig_id), None)?
        .is_some();
    let agent = if others_wait || is_held(draft, rig_id)? {
        None
    } else {
        assign(draft, bead.bead_id)?
    };
    if agent.is_none() {
        draft.fact("bead.queued", beads::fact_of(&bead));
    }
    Ok(Slung {
        bead: draft.bead(bead.bead_id)?,
        agent,
    })
}

/// Whether a person or the budget holds new work of the rig back.
fn is_held(draft: &mut Draft<'_>, rig_id: RigId) -> Result<bool, Error> {
    Ok(draft.town()?.paused || draft.rig(rig_id)?.paused || budget::is_used_up(draft)?)
}

/// Puts a waiting bead on the hook of a free polecat. `None` if there is none, or the bead does not
/// wait any more.
pub(super) fn assign(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<Option<Agent>, Error> {
    let Some(bead) = draft.find_bead(bead_id)? else {
        return Ok(None);
    };
    let Some(BeadSlung { rig_id, .. }) = super::rows::slung_key(&bead) else {
        return Ok(None);
    };
    let polecats = Polecats::of(
        draft.agents_of(rig_id)?.iter(),
        draft.config()?.max_polecats(rig_id),
    );
    if polecats.free() == 0 {
        return Ok(None);
    }
    let agent = agents::get_or_create(draft, rig_id, AgentRole::Polecat)?;
    agents::hook(draft, rig_id, agent.agent_id, bead_id)?;
    draft.agent(agent.agent_id).map(Some)
}

/// A failed bead is to be tried again: it is open, and waits for a polecat if it was slung.
pub(super) fn retry(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    bead_id: BeadId,
    by: Option<String>,
) -> Result<Bead, Error> {
    let bead = draft.bead_of(rig_id, bead_id)?;
    if bead.status != BeadStatus::Failed {
        return Err(Refusal::BeadNotFailed(bead_id, bead.status.as_str()).into());
    }
    container::asked_for(draft)?;
    let slung = bead.slung;
    beads::change_status(draft, bead, BeadStatus::Open, by)?;
    let mut bead = draft.bead(bead_id)?;
    bead.slung = slung;
    draft.fact(
        "bead.retried",
        Fact {
            ..beads::fact_of(&bead)
        },
    );
    draft.set_bead(bead)?;
    draft.bead(bead_id)
}

/// The polecats of a rig, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Polecats {
    all: usize,
    busy: usize,
    limit: usize,
}

impl Polecats {
    pub(super) fn of<'a>(agents: impl Iterator<Item = &'a Agent>, limit: u32) -> Self {
        let mut polecats = Self {
            limit: limit as usize,
            ..Self::default()
        };
        for agent in agents.filter(|agent| agent.role == AgentRole::Polecat) {
            polecats.all += 1;
            polecats.busy += usize::from(!agents::is_free(agent));
        }
        polecats
    }

    /// How many more beads can be given out: to idle polecats and to new ones, but never so that
    /// more work at once than the limit allows.
    pub(super) fn free(self) -> usize {
        let idle = self.all - self.busy;
        let new = self.limit.saturating_sub(self.all);
        (idle + new).min(self.limit.saturating_sub(self.busy))
    }
}
