//! Disk use: measured while there is work and told to the server, and made less when that asks for it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::actor::Fleet;
use super::agent::Agent;
use super::command::{Command, Denied};
use crate::container::disk::{self, InUse};
use crate::container::git::{BranchName, Git, GitUrl, Removal, Repository};
use crate::container::protocol::{
    ContainerDisk, KeptWorktree, RigDisk, Tidied, TidyDisk, TidyWorktree, WorktreeDisk,
    message_type,
};
use crate::model::RigId;

/// From the first work to the first look, and from look to look at the least.
const MEASURE_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// What it takes to read an entry of a folder, and to ask git which folders of a worktree it ignores;
/// about, and of the processor. How long a look takes says more of who else is at work.
const ENTRY_COST: Duration = Duration::from_micros(4);
const WORKTREE_COST: Duration = Duration::from_millis(10);

/// A look is followed by this many times its cost without one: measuring takes at most a hundredth of
/// a core, however much lies there.
const MEASURE_REST_FACTOR: u32 = 100;

/// Worktrees that are told of one by one; what others take counts as the rig's own.
const WORKTREES_TOLD_MAX: usize = 500;

/// When to look next, and who looks.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// Whether something happened that may have changed it.
    is_stale: bool,
    /// Not to be measured before.
    rests_until: Option<Instant>,
    is_measuring: bool,
    is_tidying: bool,
    pub(super) in_use: InUse,
}

impl DiskState {
    /// Something happened that may have changed what lies there.
    pub(super) fn changed(&mut self, now: Instant) {
        self.is_stale = true;
        self.rests_until.get_or_insert(now + MEASURE_INTERVAL_MIN);
    }

    /// When to look next; never, while nothing changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.rests_until
            .filter(|_| self.is_stale && !self.is_measuring)
    }
}

/// Who measures and tidies, on threads that may wait for the disk.
#[derive(Clone, Debug)]
struct Housekeeper {
    git: Git,
    workspace: PathBuf,
    in_use: InUse,
}

/// A rig of which something may go.
struct Order {
    repository: Repository,
    url: GitUrl,
    target: BranchName,
    worktrees: Vec<TidyWorktree>,
}

impl Fleet {
    /// Looks what lies there; the answer is [`Command::DiskMeasured`].
    pub(super) fn measure_disk(&mut self) {
        // Who is at work now changes it again.
        self.disk.is_stale = self.agents.values().any(Agent::is_busy);
        self.disk.is_measuring = true;
        let (keeper, commands) = (self.housekeeper(), self.commands.clone());
        self.options
            .lifecycle
            .spawn_detached("measure the disk", async move {
                let (disk, cost) = Box::pin(keeper.measure()).await;
                // Nobody listens any more only when the fleet has ended.
                let _ = commands.send(Command::DiskMeasured(disk, cost)).await;
            });
    }

    pub(super) fn disk_measured(&mut self, disk: &ContainerDisk, cost: Duration) {
        self.disk.is_measuring = false;
        let rest = (cost * MEASURE_REST_FACTOR).max(MEASURE_INTERVAL_MIN);
        self.disk.rests_until = Some(Instant::now() + rest);
        self.say(None, message_type::CONTAINER_DISK, disk);
    }

    /// Lets go of what is not needed; the answer is [`Command::Tidied`].
    pub(super) fn tidy(&mut self, tidy: TidyDisk) -> Result<(), Denied> {
        if self.drain.is_some() {
            return Err(Denied::Draining);
        }
        let invalid = |error: crate::container::Error| Denied::Invalid(error.to_string());
        let mut orders = Vec::with_capacity(tidy.rigs.len());
        for rig in tidy.rigs {
            orders.push(Order {
                url: GitUrl::parse(&rig.git_url, self.options.git.allowed()).map_err(invalid)?,
                target: BranchName::parse(&rig.target_branch).map_err(invalid)?,
                repository: self.repository(rig.rig_id),
                worktrees: rig.worktrees,
            });
        }
        if std::mem::replace(&mut self.disk.is_tidying, true) {
            return Ok(());
        }
        let (keeper, commands) = (self.housekeeper(), self.commands.clone());
        self.options
            .lifecycle
            .spawn_detached("tidy the disk", async move {
                let disk = Box::pin(keeper.tidy(orders, tidy.bytes_max)).await;
                let _ = commands.send(Command::Tidied(disk)).await;
            });
        Ok(())
    }

    pub(super) fn tidied(&mut self, disk: &ContainerDisk) {
        self.disk.is_tidying = false;
        self.say(None, message_type::CONTAINER_DISK, disk);
    }

    fn housekeeper(&self) -> Housekeeper {
        Housekeeper {
            git: self.git.clone(),
            workspace: self.options.workspace.clone(),
            in_use: self.disk.in_use.clone(),
        }
    }
}

impl Housekeeper {
    /// What lies there, and what it cost to find out.
    async fn measure(&self) -> (ContainerDisk, Duration) {
        let mut disk = ContainerDisk::default();
        let mut cost = Duration::ZERO;
        let mut room = WORKTREES_TOLD_MAX;
        let Ok(mut entries) = tokio::fs::read_dir(&self.workspace).await else {
            return (disk, cost);
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_name() == "rigs" {
                continue;
            }
            let path = entry.path();
            let walked = tokio::task::spawn_blocking(move || disk::walk(&path)).await;
            let found = walked.unwrap_or_default();
            disk.other_bytes += found.bytes;
            cost += cost_of(found.entries);
        }
        let Ok(mut rigs) = tokio::fs::read_dir(self.workspace.join("rigs")).await else {
            return (disk, cost);
        };
        while let Ok(Some(entry)) = rigs.next_entry().await {
            let rig_id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(rig_id) = rig_id {
                let (rig, more) = self.measure_rig(rig_id, &mut room).await;
                disk.rigs.push(rig);
                cost += more;
            }
        }
        disk.rigs.sort_by_key(|rig| rig.rig_id);
        (disk, cost)
    }

    async fn measure_rig(&self, rig_id: RigId, room: &mut usize) -> (RigDisk, Duration) {
        // It only looks, so it needs no hold on the repository that others share.
        let repository = Repository::new(self.git.clone(), &self.workspace, rig_id);
        let (repository_bytes, entries) = repository.measure_rest().await;
        let mut cost = cost_of(entries);
        let mut rig = RigDisk {
            rig_id,
            repository_bytes,
            worktrees: Vec::new(),
        };
        for folder in repository.worktree_names().await {
            let (bytes, build_bytes, entries) = match repository.measure_worktree(&folder).await {
                Ok(measured) => measured,
                Err(error) => {
                    tracing::debug!(folder, "a worktree was not measured: {}", error.story());
                    continue;
                }
            };
            cost += cost_of(entries) + WORKTREE_COST;
            if *room == 0 {
                rig.repository_bytes += bytes;
                continue;
            }
            *room -= 1;
            rig.worktrees.push(WorktreeDisk {
                folder,
                bytes,
                build_bytes,
            });
        }
        (rig, cost)
    }

    /// Build folders first, then worktrees, and no more than is needed.
    async fn tidy(&self, orders: Vec<Order>, bytes_max: Option<u64>) -> ContainerDisk {
        let mut tidied = Tidied::default();
        if bytes_max.is_some() {
            for order in &orders {
                for folder in order.repository.worktree_names().await {
                    match order.repository.prune_builds(&folder, &self.in_use).await {
                        Ok((builds, bytes)) => {
                            tidied.builds += builds;
                            tidied.freed_bytes += bytes;
                        }
                        Err(error) => tidied.error = Some(error.story()),
                    }
                }
            }
        }
        let (mut disk, _) = self.measure().await;
        let mut used = used(&disk);
        let is_enough = |used: u64| bytes_max.is_some_and(|bytes_max| used < bytes_max);
        let mut has_removed = false;
        for order in orders {
            if order.worktrees.is_empty() || is_enough(used) {
                continue;
            }
            if let Err(error) = order.repository.bring(&order.url).await {
                tidied.error = Some(error.story());
                continue;
            }
            for TidyWorktree { agent_id, name } in &order.worktrees {
                if is_enough(used) {
                    break;
                }
                let removed = order
                    .repository
                    .remove_if_merged(*agent_id, name, &order.target, &self.in_use)
                    .await;
                match removed {
                    Ok(Removal::Absent) => {}
                    Ok(Removal::Removed(bytes)) => {
                        has_removed = true;
                        used = used.saturating_sub(bytes);
                        tidied.freed_bytes += bytes;
                        tidied.removed.push(*agent_id);
                    }
                    Ok(Removal::Kept(reason)) => tidied.kept.push(KeptWorktree {
                        agent_id: *agent_id,
                        reason,
                    }),
                    Err(error) => tidied.error = Some(error.story()),
                }
            }
        }
        if has_removed {
            (disk, _) = self.measure().await;
        }
        disk.tidied = Some(tidied);
        disk
    }
}

/// What it took to read so many entries.
fn cost_of(entries: u64) -> Duration {
    ENTRY_COST * u32::try_from(entries).unwrap_or(u32::MAX)
}

fn used(disk: &ContainerDisk) -> u64 {
    let rigs = disk.rigs.iter().map(|rig| {
        let worktrees = rig.worktrees.iter().map(|worktree| worktree.bytes);
        rig.repository_bytes + worktrees.sum::<u64>()
    });
    disk.other_bytes + rigs.sum::<u64>()
}
