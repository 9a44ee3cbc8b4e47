//! What may not be started for now, and why.

use serde::{Deserialize, Serialize};

use crate::config::{Budget, TownConfig};
use crate::container::protocol::text;
use crate::model::{AgentId, RigId, Scheduler, Timestamp, Usage};
use crate::storage::{AgentKey, RigPaused, SchedulerKey, TownKey, Tree};
use crate::town::budget;
use crate::town::refusal::Error;
use crate::town::settings::TownSettings;

/// Everything that holds work back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct Holds {
    /// Whether a person has paused the town.
    pub(in crate::town) town: bool,
    /// Rigs that a person has paused.
    #[serde(with = "text::list")]
    pub(in crate::town) rigs: Vec<RigId>,
    /// The open breaker.
    pub(in crate::town) breaker: Option<BreakerSeen>,
    pub(in crate::town) budget: BudgetSeen,
}

/// Too much failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct BreakerSeen {
    /// When one agent may be started to see whether things work again.
    #[serde(with = "text")]
    pub(in crate::town) probe_at: Timestamp,
    /// The agent that runs for that.
    #[serde(with = "text::option")]
    pub(in crate::town) probe: Option<AgentId>,
}

/// What a day may cost and what it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct BudgetSeen {
    pub(in crate::town) caps: Budget,
    /// The day that the figures are about, in days since 1970 (UTC).
    pub(in crate::town) day: u64,
    pub(in crate::town) tokens: u64,
    pub(in crate::town) cost_nanos: u64,
    /// The day on which people were told that it is used up, while it is.
    pub(in crate::town) told: Option<u64>,
}

impl Holds {
    /// Whether a person holds the rig back; `None` stands for what belongs to no rig.
    pub(super) fn holds(&self, rig_id: Option<RigId>) -> bool {
        self.town || rig_id.is_some_and(|rig_id| self.rigs.contains(&rig_id))
    }

    /// Which cap of the day is reached, in words.
    pub(super) fn budget_reached(&self, now: Timestamp) -> Option<String> {
        let spent = if self.budget.day == budget::day_of(now) {
            Usage {
                input: self.budget.tokens,
                cost_nanos: self.budget.cost_nanos,
                ..Usage::default()
            }
        } else {
            Usage::default()
        };
        budget::reached(&spent, &self.budget.caps)
    }
}

pub(super) fn observe(
    tree: &Tree,
    config: &TownConfig,
    settings: &TownSettings,
) -> Result<Holds, Error> {
    let notes = tree.get(&SchedulerKey {})?.unwrap_or_default();
    let mut rigs = Vec::new();
    for row in tree.scan(&RigPaused::all()) {
        rigs.push(row?.1.id);
    }
    Ok(Holds {
        town: tree.get(&TownKey {})?.is_some_and(|town| town.paused),
        rigs,
        breaker: breaker(tree, &notes, settings)?,
        budget: BudgetSeen {
            caps: config.budget.clone(),
            day: notes.day,
            tokens: notes.spent.tokens(),
            cost_nanos: notes.spent.cost_nanos,
            told: notes.budget_told,
        },
    })
}

fn breaker(
    tree: &Tree,
    notes: &Scheduler,
    settings: &TownSettings,
) -> Result<Option<BreakerSeen>, Error> {
    let Some(breaker) = &notes.breaker else {
        return Ok(None);
    };
    // A probe that was stopped has shown nothing: another one may try.
    let mut probe = breaker.probe;
    if let Some(agent_id) = probe {
        let agent = tree.get(&AgentKey { agent_id })?;
        probe = agent
            .filter(|agent| agent.dispatch.requested_at.is_some())
            .map(|agent| agent.agent_id);
    }
    Ok(Some(BreakerSeen {
        probe_at: breaker.opened_at.after(settings.probe_after),
        probe,
    }))
}
