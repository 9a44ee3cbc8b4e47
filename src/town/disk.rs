//! Transitions of the disk: what the container measured, what it is asked to let go of, and the quota
//! that holds work back while there is no room.

use serde_json::json;

use crate::config::TownConfig;
use crate::container::protocol::{ContainerDisk, Tidied};
use crate::container::worktree_folder_name;
use crate::model::{AgentId, DiskUse, Priority, RigDiskUse, RigId, WorktreeUse};
use crate::storage::DiskKey;

use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::escalations;
use super::refusal::Error;

/// What its escalations are about.
const MATTER: &str = "disk";
const MATTER_TIDY: &str = "disk:tidy";

/// Failed tries to tidy up after which people are called.
pub(super) const TIDY_ATTEMPTS_MAX: u32 = 5;

/// How much is used of what the config allows, in words, if that is all of it or more.
pub(super) fn over(disk: &DiskUse, config: &TownConfig) -> Option<String> {
    let bytes_max = config.container.disk_bytes_max?;
    let bytes = disk.bytes();
    (bytes >= bytes_max).then(|| {
        format!(
            "{} of the {} of disk that the town may take are used",
            in_words(bytes),
            in_words(bytes_max)
        )
    })
}

/// A number of bytes for people.
#[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
fn in_words(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mebibytes = bytes as f64 / MIB;
    if mebibytes >= 1024.0 {
        format!("{:.2} GiB", mebibytes / 1024.0)
    } else {
        format!("{mebibytes:.1} MiB")
    }
}

fn row(draft: &Draft<'_>) -> Result<DiskUse, Error> {
    Ok(draft.tree.get(&DiskKey {})?.unwrap_or_default())
}

/// Whether nothing more may be started for lack of room.
pub(super) fn is_full(draft: &mut Draft<'_>) -> Result<bool, Error> {
    let disk = row(draft)?;
    Ok(disk.full_since.is_some() && over(&disk, &draft.config()?).is_some())
}

/// The container has measured, and perhaps tidied up before.
pub(super) fn measured(draft: &mut Draft<'_>, told: ContainerDisk) -> Result<(), Error> {
    let mut disk = row(draft)?;
    disk.measured_at = Some(draft.now);
    disk.other_bytes = told.other_bytes;
    disk.rigs.clear();
    for rig in told.rigs {
        let owners = owners(draft, rig.rig_id)?;
        let worktrees = rig.worktrees.into_iter().map(|worktree| WorktreeUse {
            agent_id: (owners.iter())
                .find(|(folder, _)| *folder == worktree.folder)
                .map(|(_, agent_id)| *agent_id),
            folder: worktree.folder,
            bytes: worktree.bytes,
            build_bytes: worktree.build_bytes,
        });
        disk.rigs.push(RigDiskUse {
            rig_id: rig.rig_id,
            repository_bytes: rig.repository_bytes,
            worktrees: worktrees.collect(),
        });
    }
    let over = over(&disk, &draft.config()?);
    if let Some(tidied) = told.tidied {
        tidied_up(draft, &mut disk, tidied, over.as_deref())?;
    }
    // Something may have to go, and nothing else may make the town look soon.
    draft.wake();
    draft.put(&DiskKey {}, &disk);
    Ok(())
}

/// Whose folder is which.
fn owners(draft: &mut Draft<'_>, rig_id: RigId) -> Result<Vec<(String, AgentId)>, Error> {
    let agents = draft.agents_of(rig_id)?.into_iter();
    Ok(agents
        .map(|agent| {
            let folder = worktree_folder_name(&agent.name, agent.agent_id);
            (folder, agent.agent_id)
        })
        .collect())
}

fn tidied_up(
    draft: &mut Draft<'_>,
    disk: &mut DiskUse,
    tidied: Tidied,
    over: Option<&str>,
) -> Result<(), Error> {
    let Tidied {
        freed_bytes,
        builds,
        removed,
        kept,
        error,
    } = tidied;
    let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
    let kept: Vec<_> = (kept.iter())
        .map(|kept| json!({"agent_id": kept.agent_id.to_string(), "reason": kept.reason}))
        .collect();
    if freed_bytes > 0 || !removed.is_empty() || (!kept.is_empty() && disk.full_since.is_none()) {
        let metadata = json!({
            "freed_bytes": freed_bytes, "builds": builds, "removed": removed, "kept": kept,
        });
        fact(draft, "disk.tidied", metadata);
    }
    if let Some(error) = error {
        return try_failed(draft, disk, &error, over);
    }
    disk.asked_at = None;
    disk.attempts = 0;
    disk.last_error = None;
    disk.swept_at = Some(draft.now);
    disk.due_at = draft.now.after(draft.settings.backoff_max);
    escalations::settle(draft, MATTER_TIDY)?;
    match over {
        Some(why) => hold(draft, disk, why),
        None => Ok(()),
    }
}

/// The container is asked to let go of what is not needed.
pub(super) fn tidy(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut disk = row(draft)?;
    if disk.asked_at.is_some() {
        return Ok(());
    }
    disk.asked_at = Some(draft.now);
    draft.put(&DiskKey {}, &disk);
    draft.effect(Effect::TidyDisk);
    Ok(())
}

/// The container could not be asked, or never answered.
pub(super) fn tidy_failed(draft: &mut Draft<'_>, reason: &str) -> Result<(), Error> {
    let mut disk = row(draft)?;
    if disk.asked_at.is_none() {
        return Ok(());
    }
    let over = over(&disk, &draft.config()?);
    try_failed(draft, &mut disk, reason, over.as_deref())?;
    draft.put(&DiskKey {}, &disk);
    Ok(())
}

/// The next try waits; after a few, work is held back without it, and people are called.
fn try_failed(
    draft: &mut Draft<'_>,
    disk: &mut DiskUse,
    reason: &str,
    over: Option<&str>,
) -> Result<(), Error> {
    disk.asked_at = None;
    disk.attempts = (disk.attempts + 1).min(TIDY_ATTEMPTS_MAX);
    disk.due_at = draft.now.after(draft.settings.backoff(disk.attempts));
    // While work is held back it is tried on, now and then; the same failure is told once.
    if disk.full_since.is_none() || disk.last_error.as_deref() != Some(reason) {
        let metadata = json!({"reason": reason, "attempt": disk.attempts});
        fact(draft, "disk.tidy_failed", metadata);
    }
    disk.last_error = Some(reason.to_owned());
    if disk.attempts < TIDY_ATTEMPTS_MAX {
        return Ok(());
    }
    if let Some(why) = over {
        return hold(draft, disk, why);
    }
    // Nothing is short of room: tomorrow is early enough.
    disk.swept_at = Some(draft.now);
    disk.attempts = 0;
    escalations::raise_own(
        draft,
        None,
        Priority::Medium,
        MATTER_TIDY.to_owned(),
        "worktrees that nobody needs can't be removed".to_owned(),
        format!("{TIDY_ATTEMPTS_MAX} tries failed; the last one: {reason}"),
    )
}

/// Nothing more could go, and there is no room.
fn hold(draft: &mut Draft<'_>, disk: &mut DiskUse, why: &str) -> Result<(), Error> {
    if disk.full_since.is_some() {
        return Ok(());
    }
    disk.full_since = Some(draft.now);
    let error = disk.last_error.as_deref();
    fact(draft, "disk.full", json!({"reason": why, "error": error}));
    let error = error.map_or_else(String::new, |error| {
        format!("\n\nTidying up failed: {error}")
    });
    escalations::raise_own(
        draft,
        None,
        Priority::High,
        MATTER.to_owned(),
        "the town's disk quota is used up".to_owned(),
        format!(
            "{why}, and nothing more can go without losing work.{error}\n\nWhat runs goes on, nothing \
             more is started. Delete agents that are not needed, merge or drop their work, or raise \
             \"container.disk_bytes_max\" in the town's config; then it goes on by itself."
        ),
    )
}

/// There is room again.
pub(super) fn free(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut disk = row(draft)?;
    if disk.full_since.take().is_none() {
        return Ok(());
    }
    disk.attempts = 0;
    draft.put(&DiskKey {}, &disk);
    fact(draft, "disk.freed", json!({"bytes": disk.bytes()}));
    escalations::settle(draft, MATTER)
}

fn fact(draft: &mut Draft<'_>, event_type: &str, metadata: serde_json::Value) {
    draft.fact(
        event_type,
        Fact {
            metadata,
            ..Fact::default()
        },
    );
}
