//! Upkeep of the logs: what is too old or too much goes, what nobody uses is closed.
//!
//! One task for all towns, far from the write path. It goes round once an hour and takes a log out
//! of turn when that has passed a bound. Each turn is some milliseconds of work with a pause behind
//! it, so a large log never holds up the disk.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::agent_log::{EventView, Keep, Log, Slice};
use crate::config::RetentionConfig;
use crate::model::{AgentId, BeadId, BeadStatus, TownId};
use crate::storage::{self, AgentKey, Batch, BeadByStatus, BeadEventKey, LedgerKey, NO_RIG, Tree};
use crate::telemetry;

use super::handle::TownHandle;
use super::queries;
use super::registry::Towns;

/// From round to round. Ages are counted in days.
const ROUND: Duration = Duration::from_secs(3600);
/// Before the first round: a server that starts has other things to do.
const FIRST_ROUND: Duration = Duration::from_secs(60);
/// From one look for unused logs to the next; one that is not used in between is closed.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Between two turns.
const TURN_PAUSE: Duration = Duration::from_millis(5);
/// After a failure, for example while the disk is full.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// A town's newest facts stay whatever their age: its ledger, some megabytes.
const FACTS_MIN: u64 = 10_000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Towns {
    /// Starts the upkeep of all logs.
    pub fn start_upkeep(&self) {
        let (towns, life) = (self.clone(), self.lifecycle().clone());
        self.lifecycle().spawn("upkeep", async move {
            tokio::select! {
                () = towns.keep_up() => {}
                () = life.stopping() => {}
            }
        });
    }

    async fn keep_up(&self) {
        let mut round = Instant::now() + jittered(FIRST_ROUND);
        let mut idle = Instant::now() + IDLE_INTERVAL;
        loop {
            tokio::select! {
                agents = self.logs().overdue() => self.sweep_overdue(&agents).await,
                () = tokio::time::sleep_until(idle) => {
                    let closed = self.logs().close_idle();
                    tracing::debug!(closed, "unused event logs were closed");
                    idle = Instant::now() + IDLE_INTERVAL;
                }
                () = tokio::time::sleep_until(round) => {
                    self.sweep_all().await;
                    round = Instant::now() + jittered(ROUND);
                }
            }
        }
    }

    /// One round: every log of every town.
    pub async fn sweep_all(&self) {
        let existing = self.logs().existing();
        for town in self.handles() {
            let swept = town.sweep_feed(self.retention_days()).await;
            report(town.town_id(), swept).await;
            // An agent that never said anything has no log, and is not to be given one.
            for agent_id in town.agent_ids() {
                if existing.contains(&agent_id) {
                    self.sweep_agent(&town, agent_id).await;
                }
            }
        }
    }

    async fn sweep_overdue(&self, agents: &BTreeSet<AgentId>) {
        let towns = self.handles();
        for agent_id in agents {
            if let Some(town) = towns.iter().find(|town| town.has_agent(*agent_id)) {
                self.sweep_agent(town, *agent_id).await;
            }
        }
    }

    async fn sweep_agent(&self, town: &TownHandle, agent_id: AgentId) {
        let swept = town.sweep_log(agent_id, self.retention_days()).await;
        self.logs().close_unused(agent_id);
        report(town.town_id(), swept).await;
    }
}

impl TownHandle {
    fn agent_ids(&self) -> Vec<AgentId> {
        let rows = self.0.tree.scan(&AgentKey::all());
        rows.filter_map(|row| row.ok().map(|(key, _)| key.agent_id))
            .collect()
    }

    fn has_agent(&self, agent_id: AgentId) -> bool {
        self.0
            .tree
            .contains(&AgentKey { agent_id })
            .unwrap_or(false)
    }

    fn retention(&self) -> Result<RetentionConfig, storage::Error> {
        Ok(queries::config_row(&self.0.tree)?.retention)
    }

    async fn sweep_log(&self, agent_id: AgentId, days: u32) -> Result<(), storage::Error> {
        let retention = self.retention()?;
        let log = self.0.logs.open(agent_id).await?;
        let age = DAY * retention.days.unwrap_or(days);
        let keep = Keep {
            events_max: retention.events_max.unwrap_or(u64::MAX),
            bytes_max: retention.bytes_max.unwrap_or(u64::MAX),
            ..Keep::for_age(self.now(), age)
        };
        expire(&log, keep, |_, _| {}).await
    }

    /// Old facts go, but for those of beads that are not finished and the newest. With a fact goes
    /// its place in the history of its bead.
    async fn sweep_feed(&self, days: u32) -> Result<(), storage::Error> {
        let age = DAY * self.retention()?.days.unwrap_or(days);
        let newest = self.0.feed.position().last_id.saturating_sub(FACTS_MIN);
        let keep = Keep {
            needed_from: needed_facts(&self.0.tree)?.min(newest + 1),
            ..Keep::for_age(self.now(), age)
        };
        expire(&self.0.feed, keep, forget_facts).await
    }
}

async fn expire(log: &Log, keep: Keep, also: fn(&Slice, &mut Batch)) -> Result<(), storage::Error> {
    loop {
        let expired = log.expire(keep, also).await?;
        if expired.events > 0 {
            tracing::debug!(subject = ?log.subject(), events = expired.events, "events were let go");
        }
        tokio::time::sleep(TURN_PAUSE).await;
        if !expired.more {
            return Ok(());
        }
    }
}

/// The first fact of a bead that is not finished; beyond all facts if there is none.
fn needed_facts(tree: &Tree) -> Result<u64, storage::Error> {
    let mut needed = u64::MAX;
    for status in [BeadStatus::Open, BeadStatus::InProgress] {
        for row in tree.scan(&BeadByStatus::of_status(status)) {
            let bead_id = row?.1.id;
            if let Some(first) = tree.scan(&BeadEventKey::of_bead(bead_id)).next() {
                needed = needed.min(first?.0.seq);
            }
        }
    }
    Ok(needed)
}

/// Removes facts from the ledger's indexes.
fn forget_facts(slice: &Slice, batch: &mut Batch) {
    #[derive(Deserialize)]
    struct About {
        bead_id: Option<String>,
        rig_id: Option<String>,
    }
    for event in slice.frames().filter_map(EventView::of_frame) {
        let about: Option<About> = serde_json::from_str(event.data.get()).ok();
        let Some(About { bead_id, rig_id }) = about else {
            continue;
        };
        let seq = event.id;
        let Some(bead_id) = bead_id.and_then(|id| id.parse::<BeadId>().ok()) else {
            continue;
        };
        batch.delete(&BeadEventKey { bead_id, seq });
        let rig_id = rig_id.and_then(|id| id.parse().ok());
        for rig_id in rig_id.into_iter().chain([NO_RIG]) {
            batch.delete(&LedgerKey { rig_id, seq });
        }
    }
}

async fn report(town: TownId, swept: Result<(), storage::Error>) {
    match swept {
        Ok(()) | Err(storage::Error::Removed { .. }) => {}
        Err(error) => {
            tracing::warn!(%town, error = telemetry::chain(&error), "old events could not be let go");
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
    }
}

/// Up to a quarter longer, so that servers that were started together don't work together.
fn jittered(interval: Duration) -> Duration {
    let [random, ..] = *TownId::random().as_bytes();
    interval + interval * u32::from(random) / 1024
}

#[cfg(test)]
mod tests;
