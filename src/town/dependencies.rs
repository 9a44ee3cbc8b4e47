//! Transitions of dependencies between the beads of a rig.
//!
//! A bead that is blocked by another one is ready once that one is closed. One that fails closes
//! nothing: whoever waits for it goes on waiting, and the ledger says why. Counting is done where a
//! status changes, so that asking whether a bead is ready costs nothing.
//!
//! Dependencies of both kinds make one graph without cycles. A cycle of `blocks` would wait for
//! itself for ever; one of `tracks` would only confuse people, and one rule is easier to know.

use std::collections::HashSet;

use serde_json::json;

use crate::model::{Bead, BeadId, BeadStatus, Dependency, DependencyKind, RigId};

use super::beads::fact_of;
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};

/// Beads that one bead may depend on: they stand in its row.
pub(super) const DEPENDENCIES_MAX: usize = 100;

/// Beads that may depend on one bead: all of them change when it closes, in one batch.
const DEPENDENTS_MAX: usize = 1000;

/// Beads looked at in search of a cycle. A longer chain is refused rather than searched for ever.
const SEARCH_MAX: usize = 10_000;

/// Makes `bead_id` depend on another bead of its rig.
pub(super) fn add(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    bead_id: BeadId,
    dependency: Dependency,
    actor: Option<String>,
) -> Result<Bead, Error> {
    let mut bead = draft.bead_of(rig_id, bead_id)?;
    let Dependency { on_bead_id, kind } = dependency;
    let on = draft.bead_of(rig_id, on_bead_id)?;
    if on_bead_id == bead_id {
        return Err(Refusal::DependencyCycle(bead_id, on_bead_id).into());
    }
    if bead.status.is_terminal() {
        return Err(Refusal::BeadTerminal(bead_id, bead.status.as_str()).into());
    }
    if bead
        .dependencies
        .iter()
        .any(|to| to.on_bead_id == on_bead_id)
    {
        return Err(Refusal::DependencyExists(bead_id, on_bead_id).into());
    }
    if bead.dependencies.len() >= DEPENDENCIES_MAX {
        return Err(Refusal::TooManyDependencies(DEPENDENCIES_MAX).into());
    }
    if draft.dependents_of(on_bead_id)?.len() >= DEPENDENTS_MAX {
        return Err(Refusal::TooManyDependencies(DEPENDENTS_MAX).into());
    }
    if reaches(draft, &on, bead_id)? {
        return Err(Refusal::DependencyCycle(bead_id, on_bead_id).into());
    }
    bead.dependencies.push(dependency);
    if kind == DependencyKind::Blocks && on.status != BeadStatus::Closed {
        bead.blockers_open += 1;
    }
    bead.updated_at = draft.now;
    draft.fact(
        "bead.dependency_added",
        Fact {
            new_value: Some(on_bead_id.to_string()),
            metadata: json!({"type": kind.as_str(), "title": on.title}),
            actor,
            ..fact_of(&bead)
        },
    );
    draft.set_bead(bead.clone())?;
    Ok(bead)
}

/// Takes a dependency away.
pub(super) fn remove(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    bead_id: BeadId,
    on_bead_id: BeadId,
    actor: Option<String>,
) -> Result<(), Error> {
    let bead = draft.bead_of(rig_id, bead_id)?;
    let known = bead
        .dependencies
        .iter()
        .any(|to| to.on_bead_id == on_bead_id);
    if !known {
        return Err(Refusal::DependencyNotFound(bead_id, on_bead_id).into());
    }
    let status = draft.find_bead(on_bead_id)?.map(|on| on.status);
    drop_from(draft, bead, on_bead_id, status, actor)
}

/// A bead has a new status, or is deleted: those that depend on it are told.
pub(super) fn moved(
    draft: &mut Draft<'_>,
    bead: &Bead,
    old: BeadStatus,
    new: Option<BeadStatus>,
) -> Result<(), Error> {
    let matters = new.is_none_or(|new| {
        new == BeadStatus::Failed || (new == BeadStatus::Closed) != (old == BeadStatus::Closed)
    });
    if !matters {
        return Ok(());
    }
    for dependent in draft.dependents_of(bead.bead_id)? {
        let blocks = dependent
            .dependencies
            .iter()
            .any(|to| to.on_bead_id == bead.bead_id && to.kind == DependencyKind::Blocks);
        match new {
            None => drop_from(draft, dependent, bead.bead_id, Some(old), None)?,
            Some(_) if !blocks => {}
            Some(BeadStatus::Closed) => unblock(draft, dependent, bead.bead_id)?,
            Some(BeadStatus::Failed) => {
                let metadata = json!({"title": bead.title, "reason": bead.failure});
                draft.fact(
                    "bead.blocker_failed",
                    Fact {
                        old_value: Some(bead.bead_id.to_string()),
                        metadata,
                        ..fact_of(&dependent)
                    },
                );
            }
            Some(BeadStatus::Open | BeadStatus::InProgress) => {
                block(draft, dependent, bead.bead_id)?;
            }
        }
    }
    Ok(())
}

fn drop_from(
    draft: &mut Draft<'_>,
    mut bead: Bead,
    on_bead_id: BeadId,
    status: Option<BeadStatus>,
    actor: Option<String>,
) -> Result<(), Error> {
    let Some(at) = (bead.dependencies.iter()).position(|to| to.on_bead_id == on_bead_id) else {
        return Ok(());
    };
    let Dependency { kind, .. } = bead.dependencies.remove(at);
    bead.updated_at = draft.now;
    draft.fact(
        "bead.dependency_removed",
        Fact {
            old_value: Some(on_bead_id.to_string()),
            metadata: json!({"type": kind.as_str()}),
            actor,
            ..fact_of(&bead)
        },
    );
    if kind == DependencyKind::Blocks && status != Some(BeadStatus::Closed) {
        return unblock(draft, bead, on_bead_id);
    }
    draft.set_bead(bead)
}

fn unblock(draft: &mut Draft<'_>, mut bead: Bead, by: BeadId) -> Result<(), Error> {
    bead.blockers_open = bead.blockers_open.saturating_sub(1);
    if bead.is_ready() && !bead.status.is_terminal() {
        draft.fact(
            "bead.unblocked",
            Fact {
                old_value: Some(by.to_string()),
                ..fact_of(&bead)
            },
        );
    }
    draft.set_bead(bead)
}

fn block(draft: &mut Draft<'_>, mut bead: Bead, by: BeadId) -> Result<(), Error> {
    if bead.is_ready() && !bead.status.is_terminal() {
        draft.fact(
            "bead.blocked",
            Fact {
                new_value: Some(by.to_string()),
                ..fact_of(&bead)
            },
        );
    }
    bead.blockers_open += 1;
    draft.set_bead(bead)
}

/// Whether `wanted` is among what `from` depends on, however far away.
fn reaches(draft: &mut Draft<'_>, from: &Bead, wanted: BeadId) -> Result<bool, Error> {
    let mut seen = HashSet::from([from.bead_id]);
    let mut ahead: Vec<BeadId> = from.dependencies.iter().map(|to| to.on_bead_id).collect();
    while let Some(bead_id) = ahead.pop() {
        if bead_id == wanted {
            return Ok(true);
        }
        if !seen.insert(bead_id) {
            continue;
        }
        if seen.len() > SEARCH_MAX {
            return Err(Refusal::TooManyDependencies(SEARCH_MAX).into());
        }
        if let Some(bead) = draft.find_bead(bead_id)? {
            ahead.extend(bead.dependencies.iter().map(|to| to.on_bead_id));
        }
    }
    Ok(false)
}
