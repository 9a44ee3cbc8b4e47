//! Transitions of the breaker: where too much fails, nothing more is started, whatever the beads'
//! own attempts say, until a probe works or a person resumes the town.

use serde_json::json;

use crate::model::{AgentId, Breaker, Priority};

use super::draft::{Draft, Fact};
use super::escalations;
use super::refusal::Error;

/// What its escalation is about.
const MATTER: &str = "breaker";

/// A dispatch failed; `agent_id` is `None` where one cause failed many.
pub(super) fn failed(
    draft: &mut Draft<'_>,
    agent_id: Option<AgentId>,
    reason: &str,
) -> Result<(), Error> {
    let (now, settings) = (draft.now, draft.settings);
    let mut notes = draft.scheduler()?;
    notes
        .failures
        .retain(|at| now.since(*at) < settings.failures_window);
    notes.failures.push(now);
    let excess = notes
        .failures
        .len()
        .saturating_sub(settings.failures_max as usize);
    notes.failures.drain(..excess);
    let count = notes.failures.len();
    match &mut notes.breaker {
        Some(breaker)
            if breaker.probe.is_some() && (agent_id.is_none() || breaker.probe == agent_id) =>
        {
            breaker.probe = None;
            breaker.opened_at = now;
            fact(draft, "breaker.probe_failed", reason);
        }
        Some(_) => {}
        None if count >= settings.failures_max as usize => {
            notes.breaker = Some(Breaker {
                opened_at: now,
                probe: None,
            });
            fact(draft, "breaker.opened", reason);
            let window = settings.failures_window.as_secs() / 60;
            let probe = settings.probe_after.as_secs().div_ceil(60);
            escalations::raise_own(
                draft,
                None,
                Priority::Critical,
                MATTER.to_owned(),
                "nothing more is dispatched: too much failed".to_owned(),
                format!(
                    "{count} tries to work failed within {window} minutes; the last one: {reason}\n\n\
                     One agent is tried again every {probe} minutes, and when it works all go on. \
                     Resume the town to go on at once."
                ),
            )?;
        }
        None => {}
    }
    draft.set_scheduler(notes);
    Ok(())
}

/// The agent is started to see whether things work again.
pub(super) fn probe(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let mut notes = draft.scheduler()?;
    if let Some(breaker) = &mut notes.breaker {
        breaker.probe = Some(agent_id);
        draft.set_scheduler(notes);
        draft.fact(
            "breaker.probed",
            Fact {
                agent_id: Some(agent_id),
                ..Fact::default()
            },
        );
    }
    Ok(())
}

/// An agent's turn went well: if it was the probe, things work again.
pub(super) fn worked(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let breaker = draft.scheduler()?.breaker;
    if breaker.is_some_and(|breaker| breaker.probe == Some(agent_id)) {
        close(draft, "a probe worked")?;
    }
    Ok(())
}

/// Dispatch goes on, and what failed so far is not counted any more.
pub(super) fn close(draft: &mut Draft<'_>, reason: &str) -> Result<(), Error> {
    let mut notes = draft.scheduler()?;
    if notes.failures.is_empty() && notes.breaker.is_none() {
        return Ok(());
    }
    notes.failures.clear();
    let was_open = notes.breaker.take().is_some();
    draft.set_scheduler(notes);
    if !was_open {
        return Ok(());
    }
    fact(draft, "breaker.closed", reason);
    escalations::settle(draft, MATTER)
}

fn fact(draft: &mut Draft<'_>, event_type: &str, reason: &str) {
    draft.fact(
        event_type,
        Fact {
            metadata: json!({"reason": reason}),
            ..Fact::default()
        },
    );
}
