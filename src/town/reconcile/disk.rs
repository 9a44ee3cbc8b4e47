//! Duty: worktrees that nobody needs any more go, and where the quota is used up, whatever can go.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::TownConfig;
use crate::container::protocol::text;
use crate::model::{Agent, AgentId, DiskUse, ReviewStatus, Timestamp};
use crate::storage::{self, AgentKey, DiskKey, ReviewByStatus, ReviewKey, Tree};
use crate::town::agents;
use crate::town::disk;
use crate::town::refusal::Error;

use super::{Action, Planner, View};

/// A container that tidies up may have to fetch every repository and to delete a lot.
const TIDY_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// Worktrees that lie unused are looked at once in this time: most are needed again, or not merged.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the reconciler sees of the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct DiskSeen {
    /// How much is used, in words, where that is more than the quota.
    pub(in crate::town) over: Option<String>,
    /// Whether that holds work back: nothing more could go.
    pub(in crate::town) is_full: bool,
    /// When the container was asked to tidy up, while it is at that.
    #[serde(with = "text::option")]
    pub(in crate::town) asked_at: Option<Timestamp>,
    /// It is not asked before this moment.
    #[serde(with = "text::option")]
    pub(in crate::town) due_at: Option<Timestamp>,
    /// When some worktree will have been unused for long enough to go.
    #[serde(with = "text::option")]
    pub(in crate::town) sweep_at: Option<Timestamp>,
}

pub(super) fn observe(tree: &Tree, config: &TownConfig) -> Result<DiskSeen, Error> {
    let Some(use_) = tree.get(&DiskKey {})? else {
        return Ok(DiskSeen::default());
    };
    Ok(DiskSeen {
        over: disk::over(&use_, config),
        is_full: use_.full_since.is_some(),
        asked_at: use_.asked_at,
        due_at: Some(use_.due_at),
        sweep_at: sweep_at(tree, &use_, config)?,
    })
}

fn sweep_at(tree: &Tree, use_: &DiskUse, config: &TownConfig) -> Result<Option<Timestamp>, Error> {
    let mut first: Option<Timestamp> = None;
    let in_review = in_review(tree)?;
    for worktree in use_.rigs.iter().flat_map(|rig| &rig.worktrees) {
        let Some(agent_id) = worktree.agent_id.filter(|id| !in_review.contains(id)) else {
            continue;
        };
        let agent = tree.get(&AgentKey { agent_id })?;
        if let Some(at) = agent.and_then(|agent| unused_from(&agent, config)) {
            first = Some(first.map_or(at, |first| first.min(at)));
        }
    }
    let next = use_.swept_at.map(|swept_at| swept_at.after(SWEEP_INTERVAL));
    Ok(first.map(|first| next.map_or(first, |next| next.max(first))))
}

/// Agents whose branch is on its way to the target: it may come back to be mended.
pub(in crate::town) fn in_review(tree: &Tree) -> Result<Vec<AgentId>, storage::Error> {
    let mut agents = Vec::new();
    for status in ReviewStatus::UNFINISHED {
        for row in tree.scan(&ReviewByStatus::of_status(*status)) {
            let entry_id = row?.1.id;
            let review = tree.get(&ReviewKey { entry_id })?;
            agents.extend(review.map(|review| review.agent_id));
        }
    }
    Ok(agents)
}

/// From when on the worktree of an agent counts as unused; `None` while it is needed.
pub(in crate::town) fn unused_from(agent: &Agent, config: &TownConfig) -> Option<Timestamp> {
    let since = agent.last_activity_at.unwrap_or(agent.created_at);
    agents::is_free(agent).then(|| since.after(config.worktree_age()))
}

pub(super) fn plan(view: &View, planner: &mut Planner) {
    let disk = &view.disk;
    let is_up = view.container.is_ready();
    if let Some(asked_at) = disk.asked_at {
        planner.work();
        if is_up && planner.is_due(asked_at.after(TIDY_TIME_MAX)) {
            planner.act(
                Action::TidyLost,
                format!("the container was asked to tidy up at {asked_at}"),
            );
        }
        return;
    }
    let due_at = disk.due_at.unwrap_or(planner.now);
    let Some(over) = &disk.over else {
        if disk.is_full {
            planner.act(Action::FreeDisk, "there is room again");
        }
        if is_up
            && let Some(sweep_at) = disk.sweep_at
            && planner.is_due(sweep_at.max(due_at))
        {
            planner.act(Action::TidyDisk, "worktrees have been unused for long");
        }
        return;
    };
    // What is held back is tried again now and then, while there is anything that waits for it.
    let is_wanted = !disk.is_full || is_up || planner.has_work;
    if is_wanted && planner.is_due(due_at) && planner.has_container(view, over) {
        planner.act(Action::TidyDisk, over);
    }
}
