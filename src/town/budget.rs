//! The day's budget: what is spent against what the config allows.

use serde_json::json;

use crate::config::Budget;
use crate::model::{Priority, Scheduler, Timestamp, Usage};

use super::draft::{Draft, Fact};
use super::escalations;
use super::refusal::Error;

/// What its escalation is about.
const MATTER: &str = "budget";

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Billionths in one unit of currency.
pub(super) const NANOS: f64 = 1e9;

/// The day of a moment, in days since 1970 (UTC).
pub(super) fn day_of(now: Timestamp) -> u64 {
    u64::try_from(now.as_millis() / DAY_MILLIS).unwrap_or(0)
}

/// When a day begins.
pub(super) fn begin_of(day: u64) -> Timestamp {
    let day = i64::try_from(day).unwrap_or(i64::MAX / DAY_MILLIS);
    Timestamp::from_millis(day.saturating_mul(DAY_MILLIS))
}

/// What was spent today.
pub(super) fn spent(notes: &Scheduler, today: u64) -> Usage {
    if notes.day == today {
        notes.spent
    } else {
        Usage::default()
    }
}

/// Which cap is reached, in words.
pub(super) fn reached(spent: &Usage, budget: &Budget) -> Option<String> {
    if let Some(cap) = budget.tokens_per_day
        && spent.tokens() >= cap
    {
        return Some(format!(
            "{} of {cap} tokens of the day are used",
            spent.tokens()
        ));
    }
    let cost = cost(spent);
    match budget.cost_per_day {
        Some(cap) if cost >= cap => Some(format!("{cost:.2} of {cap:.2} of the day are spent")),
        _ => None,
    }
}

/// In the currency of the models' prices.
#[expect(
    clippy::cast_precision_loss,
    reason = "costs beyond 9 million are exact to a millionth still"
)]
pub(super) fn cost(usage: &Usage) -> f64 {
    usage.cost_nanos as f64 / NANOS
}

/// Whether nothing more may be started today.
pub(super) fn is_used_up(draft: &mut Draft<'_>) -> Result<bool, Error> {
    let budget = draft.config()?.budget;
    let spent = spent(&draft.scheduler()?, day_of(draft.now));
    Ok(reached(&spent, &budget).is_some())
}

/// People are told, once a day, that the cap holds the work.
pub(super) fn tell(draft: &mut Draft<'_>) -> Result<(), Error> {
    let today = day_of(draft.now);
    let budget = draft.config()?.budget;
    let mut notes = draft.scheduler()?;
    let Some(reason) = reached(&spent(&notes, today), &budget) else {
        return Ok(());
    };
    if notes.budget_told == Some(today) {
        return Ok(());
    }
    notes.budget_told = Some(today);
    draft.set_scheduler(notes);
    fact(draft, "budget.reached", &reason);
    escalations::raise_own(
        draft,
        None,
        Priority::High,
        MATTER.to_owned(),
        "the day's budget is used up".to_owned(),
        format!(
            "{reason}\n\nWhat runs goes on, nothing more is started before midnight (UTC). Raise the \
             budget in the town's config to go on at once."
        ),
    )
}

/// The cap holds nothing any more: another day, or a larger budget.
pub(super) fn free(draft: &mut Draft<'_>) -> Result<(), Error> {
    let mut notes = draft.scheduler()?;
    if notes.budget_told.take().is_none() {
        return Ok(());
    }
    draft.set_scheduler(notes);
    fact(draft, "budget.freed", "there is budget again");
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
