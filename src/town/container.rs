//! Transitions of the town's container: asleep, starting, ready, draining, failed.
//!
//! The row says what the town wants and what it was told; only what the supervisor and the
//! container itself say makes a container ready or gone. A start that fails is the container's own
//! failure and nobody's bead's: it is tried a few times with a growing pause, and then again when
//! somebody asks for something.

use serde_json::json;

use crate::container::protocol::ContainerStats;
use crate::container::{ContainerReport, LinkState};
use crate::model::{ContainerLife, ContainerState, Epoch, Priority};

use crate::storage::{ContainerKey, Tree};

use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::Error;
use super::{disk, escalations};

/// What the escalation of a container that can't be started is about.
const MATTER: &str = "container";

/// Changes the state, and tells of it on the town's feed.
fn set_state(draft: &mut Draft<'_>, mut life: ContainerLife, to: ContainerState, reason: String) {
    let from = std::mem::replace(&mut life.state, to);
    life.since = Some(draft.now);
    life.reason = Some(reason);
    let metadata = json!({
        "reason": life.reason,
        "epoch": life.epoch.map(|epoch| epoch.to_string()),
        "attempts": life.attempts,
        "retry_at": life.retry_at.map(|at| at.to_string()),
    });
    draft.fact(
        &format!("container.{to}"),
        Fact {
            old_value: Some(from.to_string()),
            new_value: Some(to.to_string()),
            metadata,
            ..Fact::default()
        },
    );
    draft.set_container(life);
}

/// The container is needed and is to be launched.
pub(super) fn start(draft: &mut Draft<'_>, why: &str) -> Result<(), Error> {
    let life = draft.container()?;
    if matches!(
        life.state,
        ContainerState::Asleep | ContainerState::Failed | ContainerState::Starting
    ) {
        draft.effect(Effect::WakeContainer);
        set_state(draft, life, ContainerState::Starting, why.to_owned());
    }
    Ok(())
}

/// A container answers.
pub(super) fn ready(draft: &mut Draft<'_>, epoch: Epoch) -> Result<(), Error> {
    let mut life = draft.container()?;
    let is_known = life.epoch == Some(epoch);
    if is_known && life.state == ContainerState::Ready {
        return Ok(());
    }
    if is_known && life.state == ContainerState::Draining {
        // It may never have heard of it, and one that has takes no notice.
        draft.effect(Effect::DrainContainer);
        return Ok(());
    }
    life.epoch = Some(epoch);
    life.attempts = 0;
    life.retry_at = None;
    life.idle_since = Some(draft.now);
    set_state(draft, life, ContainerState::Ready, "it answers".to_owned());
    escalations::settle(draft, MATTER)
}

/// Nothing has needed the container for long: it is to save its agents' work and end.
pub(super) fn drain(draft: &mut Draft<'_>, why: &str) -> Result<(), Error> {
    let life = draft.container()?;
    if life.state == ContainerState::Ready {
        draft.effect(Effect::DrainContainer);
        set_state(draft, life, ContainerState::Draining, why.to_owned());
    }
    Ok(())
}

/// The container could not be asked to drain: it goes on, and is asked again when it has been idle
/// for as long again.
pub(super) fn drain_failed(draft: &mut Draft<'_>, reason: &str) -> Result<(), Error> {
    let mut life = draft.container()?;
    if life.state == ContainerState::Draining {
        life.idle_since = Some(draft.now);
        let reason = format!("it could not be asked to drain: {reason}");
        set_state(draft, life, ContainerState::Ready, reason);
    }
    Ok(())
}

/// Takes over what the container says of itself.
pub(super) fn told(draft: &mut Draft<'_>, report: ContainerReport) -> Result<(), Error> {
    match report {
        ContainerReport::Disk(disk) => disk::measured(draft, disk)?,
        ContainerReport::Draining { reason } => {
            let life = draft.container()?;
            if life.state == ContainerState::Ready {
                set_state(draft, life, ContainerState::Draining, reason);
            }
        }
        ContainerReport::Stats(ContainerStats {
            agents,
            servers,
            rss_bytes,
            processes,
            uptime,
        }) => {
            let metadata = json!({
                "agents": agents, "servers": servers, "memory_bytes": rss_bytes,
                "processes": processes, "uptime_s": uptime,
            });
            draft.fact(
                "container.stats",
                Fact {
                    metadata,
                    ..Fact::default()
                },
            );
        }
    }
    Ok(())
}

/// The container's process is gone. Says whether it was to end.
pub(super) fn gone(draft: &mut Draft<'_>, reason: &str) -> Result<bool, Error> {
    let mut life = draft.container()?;
    let was_to_end = life.state == ContainerState::Draining;
    if life.state == ContainerState::Asleep {
        return Ok(was_to_end);
    }
    // After a failure this is the word of a server that has just begun, perhaps with other settings.
    life.attempts = 0;
    life.retry_at = None;
    life.idle_since = None;
    let reason = match &life.reason {
        Some(why) if was_to_end => format!("it was drained: {why}"),
        _ => reason.to_owned(),
    };
    set_state(draft, life, ContainerState::Asleep, reason);
    Ok(was_to_end)
}

/// The container could not be started.
pub(super) fn start_failed(draft: &mut Draft<'_>, reason: &str) -> Result<(), Error> {
    let mut life = draft.container()?;
    life.attempts = life.attempts.saturating_add(1);
    let attempts = life.attempts;
    let gives_up = attempts >= draft.settings.attempts_max;
    life.retry_at = (!gives_up).then(|| draft.now.after(draft.settings.backoff(attempts)));
    set_state(draft, life, ContainerState::Failed, reason.to_owned());
    if !gives_up {
        return Ok(());
    }
    escalations::raise_own(
        draft,
        None,
        Priority::Critical,
        MATTER.to_owned(),
        "the town's container can't be started".to_owned(),
        format!(
            "{attempts} tries failed; the last one: {reason}\n\nAll work of the town waits for it. \
             Mend the cause; then it is tried again when somebody slings, hooks or retries a bead, \
             writes to the mayor, changes the config or resumes the town."
        ),
    )
}

/// Whether the row says what the supervisor has said, which a full disk can keep it from.
pub(super) fn reflects(tree: &Tree, state: &LinkState) -> bool {
    let Ok(life) = tree.get(&ContainerKey {}) else {
        return false;
    };
    let life = life.unwrap_or_default();
    match state {
        LinkState::Up { epoch } => {
            let is_up = matches!(life.state, ContainerState::Ready | ContainerState::Draining);
            is_up && life.epoch == Some(*epoch)
        }
        LinkState::Down { .. } => life.state == ContainerState::Asleep,
        LinkState::StartFailed { .. } => life.state == ContainerState::Failed,
    }
}

/// Somebody asks for something that may need the container: one that was given up is tried again.
pub(super) fn asked_for(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut life = draft.container()?;
    if life.state == ContainerState::Failed {
        life.attempts = 0;
        life.retry_at = Some(draft.now);
        draft.set_container(life);
        draft.wake();
    }
    Ok(())
}

/// Something needs the container that runs.
pub(super) fn busy(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut life = draft.container()?;
    life.idle_since = None;
    draft.set_container(life);
    Ok(())
}

/// Nothing needs the container any more: from now on it is counted how long.
pub(super) fn idle(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut life = draft.container()?;
    life.idle_since = Some(draft.now);
    draft.set_container(life);
    Ok(())
}

/// Whether the mayor's session is to be made although nobody speaks to the mayor yet.
pub(super) fn call_mayor(draft: &mut Draft<'_>, calls: bool) -> Result<(), Error> {
    let mut life = draft.container()?;
    if life.calls_mayor != calls {
        life.calls_mayor = calls;
        draft.set_container(life);
    }
    Ok(())
}
