//! Transitions of convoys: batches of beads, of one rig or several, that land together.
//!
//! A convoy counts its members where their status changes, so it lands in the same batch as the
//! close of its last one, whoever closes it and however. A failed bead keeps it from landing until
//! it is closed after all or deleted. A convoy that has landed stays landed: a bead that is
//! reopened afterwards leaves it, so that a landed convoy never holds open work.

use std::collections::HashSet;

use serde_json::json;

use crate::config::Issue;
use crate::model::{Bead, BeadId, BeadStatus, BeadType, Convoy};

use super::command::{ConvoyState, NewBead, NewConvoy, NewMail};
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};
use super::{beads, mail};

/// Beads of one convoy. All are changed in one batch when it is made.
pub(super) const CONVOY_BEADS_MAX: usize = 1000;

/// Who tells the mayor that a convoy has landed.
const FROM: &str = "gastownd";

pub(super) fn create(draft: &mut Draft<'_>, new: NewConvoy) -> Result<ConvoyState, Error> {
    let members = members(draft, &new)?;
    let bead = beads::create(
        draft,
        None,
        NewBead {
            created_by: new.created_by,
            ..NewBead::of(BeadType::Convoy, new.title)
        },
    )?;
    let convoy_id = bead.bead_id;
    draft.set_convoy(Convoy {
        convoy_id,
        total: 0,
        closed: 0,
        failed: 0,
        landed_at: None,
    })?;
    let total = members.len();
    for member in members {
        join(draft, member, convoy_id)?;
    }
    let bead = draft.bead(convoy_id)?;
    draft.fact(
        "convoy.created",
        Fact {
            actor: bead.created_by.clone(),
            metadata: json!({"title": bead.title, "total_beads": total}),
            ..beads::fact_of(&bead)
        },
    );
    state(draft, convoy_id)
}

/// The beads that are to travel, or everything that is wrong with them.
fn members(draft: &mut Draft<'_>, new: &NewConvoy) -> Result<Vec<Bead>, Error> {
    let mut issues = Vec::new();
    let mut seen = HashSet::new();
    let issue = |index: usize, message: &str| Issue {
        path: vec!["beads".to_owned(), index.to_string(), "bead_id".to_owned()],
        message: message.to_owned(),
    };
    for (index, (bead_id, _)) in new.beads.iter().enumerate() {
        if !seen.insert(*bead_id) {
            issues.push(issue(index, "stands in this convoy twice"));
        }
    }
    if new.beads.is_empty() || new.beads.len() > CONVOY_BEADS_MAX {
        issues.push(Issue {
            path: vec!["beads".to_owned()],
            message: format!("must be 1 to {CONVOY_BEADS_MAX} beads"),
        });
    }
    if !issues.is_empty() {
        return Err(Refusal::Invalid(issues).into());
    }
    let mut members = Vec::with_capacity(new.beads.len());
    for (bead_id, rig_id) in &new.beads {
        draft.rig(*rig_id)?;
        let bead = draft.bead_of(*rig_id, *bead_id)?;
        if bead.status.is_terminal() {
            return Err(Refusal::BeadTerminal(*bead_id, bead.status.as_str()).into());
        }
        if let Some(other) = bead.convoy_id {
            return Err(Refusal::BeadInConvoy(*bead_id, other).into());
        }
        members.push(bead);
    }
    Ok(members)
}

/// Puts a bead that is in no convoy into one that has not landed.
pub(super) fn join(draft: &mut Draft<'_>, mut bead: Bead, convoy_id: BeadId) -> Result<(), Error> {
    let convoy = draft.convoy(convoy_id)?;
    if convoy.landed_at.is_some() {
        return Err(Refusal::ConvoyLanded(convoy_id).into());
    }
    if convoy.total as usize >= CONVOY_BEADS_MAX {
        return Err(Refusal::ConvoyFull(CONVOY_BEADS_MAX).into());
    }
    bead.convoy_id = Some(convoy_id);
    bead.updated_at = draft.now;
    draft.fact(
        "bead.convoy_joined",
        Fact {
            new_value: Some(convoy_id.to_string()),
            ..beads::fact_of(&bead)
        },
    );
    let status = bead.status;
    draft.set_bead(bead.clone())?;
    moved(draft, &bead, None, Some(status))
}

/// A member has a new status, joins (`old` is `None`) or leaves (`new` is `None`).
pub(super) fn moved(
    draft: &mut Draft<'_>,
    bead: &Bead,
    old: Option<BeadStatus>,
    new: Option<BeadStatus>,
) -> Result<(), Error> {
    let Some(convoy_id) = bead.convoy_id else {
        return Ok(());
    };
    let Some(mut convoy) = draft.find_convoy(convoy_id)? else {
        return Ok(());
    };
    let before = convoy;
    let change = |count: &mut u32, was: bool, is: bool| {
        *count = count.saturating_sub(u32::from(was)) + u32::from(is);
    };
    change(&mut convoy.total, old.is_some(), new.is_some());
    let closed = Some(BeadStatus::Closed);
    change(&mut convoy.closed, old == closed, new == closed);
    let failed = Some(BeadStatus::Failed);
    change(&mut convoy.failed, old == failed, new == failed);
    if convoy != before {
        draft.set_convoy(convoy)?;
    }
    if old.is_some() && convoy != before {
        progress(draft, &convoy, bead)?;
    }
    land_if_due(draft, convoy_id)
}

/// A reopened bead leaves a convoy that has landed.
pub(super) fn leave_if_landed(draft: &mut Draft<'_>, bead_id: BeadId) -> Result<(), Error> {
    let bead = draft.bead(bead_id)?;
    let Some(convoy_id) = bead.convoy_id else {
        return Ok(());
    };
    let convoy = draft.find_convoy(convoy_id)?;
    if convoy.is_none_or(|convoy| convoy.landed_at.is_none()) {
        return Ok(());
    }
    moved(draft, &bead, Some(bead.status), None)?;
    draft.fact(
        "bead.convoy_left",
        Fact {
            old_value: Some(convoy_id.to_string()),
            ..beads::fact_of(&bead)
        },
    );
    draft.set_bead(Bead {
        convoy_id: None,
        ..bead
    })
}

/// Tells how far the convoy is.
fn progress(draft: &mut Draft<'_>, convoy: &Convoy, bead: &Bead) -> Result<(), Error> {
    let convoy_bead = draft.bead(convoy.convoy_id)?;
    let metadata = json!({
        "bead_id": bead.bead_id.to_string(), "total_beads": convoy.total,
        "closed_beads": convoy.closed, "failed_beads": convoy.failed,
    });
    draft.fact(
        "convoy.progress",
        Fact {
            metadata,
            ..beads::fact_of(&convoy_bead)
        },
    );
    Ok(())
}

/// Lands the convoy if every bead in it is closed. With none left there is nothing to wait for.
pub(super) fn land_if_due(draft: &mut Draft<'_>, convoy_id: BeadId) -> Result<(), Error> {
    let Some(mut convoy) = draft.find_convoy(convoy_id)? else {
        return Ok(());
    };
    if convoy.landed_at.is_some() || !convoy.is_complete() {
        return Ok(());
    }
    convoy.landed_at = Some(draft.now);
    draft.set_convoy(convoy)?;
    beads::finish(draft, convoy_id, BeadStatus::Closed, None, None)?;
    let bead = draft.bead(convoy_id)?;
    draft.fact(
        "convoy.landed",
        Fact {
            metadata: json!({"title": bead.title, "total_beads": convoy.total}),
            ..beads::fact_of(&bead)
        },
    );
    let Some(mayor) = draft.mayor()? else {
        return Ok(());
    };
    let letter = NewMail {
        from_agent_id: FROM.to_owned(),
        to_agent_id: mayor.agent_id,
        subject: format!("Convoy landed: {}", bead.title),
        body: format!(
            "All beads of the convoy \"{}\" ({convoy_id}) are closed: {} of {}.",
            bead.title, convoy.closed, convoy.total
        ),
        mail_type: crate::model::MailType::Message,
    };
    mail::send(draft, None, letter).map(drop)
}

/// Somebody says that a bead of the convoy is closed. The town knows better than anybody, so this
/// only looks again; it may be said any number of times.
pub(super) fn bead_closed(
    draft: &mut Draft<'_>,
    convoy_id: BeadId,
    bead_id: BeadId,
) -> Result<ConvoyState, Error> {
    draft.convoy(convoy_id)?;
    let member = draft.find_bead(bead_id)?;
    if member.is_none_or(|bead| bead.convoy_id != Some(convoy_id)) {
        return Err(Refusal::BeadNotFound(bead_id).into());
    }
    land_if_due(draft, convoy_id)?;
    state(draft, convoy_id)
}

fn state(draft: &mut Draft<'_>, convoy_id: BeadId) -> Result<ConvoyState, Error> {
    Ok(ConvoyState {
        convoy: draft.convoy(convoy_id)?,
        bead: draft.bead(convoy_id)?,
    })
}
