//! What agents use: counted once per message, kept per day, agent and bead.

use std::collections::BTreeMap;

use crate::model::{AgentId, BeadId, Counted, CountedMessage, Timestamp, Usage};
use crate::storage::{self, CountedKey, SchedulerKey, Tree, UsageKey};

use super::budget;
use super::draft::Draft;
use super::refusal::Error;

/// Messages of an agent whose counts are remembered. An agent writes one at a time, and each of the
/// sessions it has begun itself another one; this is more than it ever has open.
const MESSAGES_MAX: usize = 32;

/// The bead of what is used for none.
const NO_BEAD: BeadId = BeadId::from_bytes([0; 16]);

/// What a town's agents used.
#[derive(Clone, Debug, Default)]
pub struct UsageReport {
    /// All of it.
    pub total: Usage,
    /// By day, in days since 1970 (UTC).
    pub days: BTreeMap<u64, Usage>,
    /// By agent; deleted ones are still named.
    pub agents: BTreeMap<AgentId, Usage>,
    /// By bead; what was used for none is under `None`.
    pub beads: BTreeMap<Option<BeadId>, Usage>,
    /// What was used today, against which the budget counts.
    pub today: Usage,
}

/// A message of an agent has cost `usage` so far.
pub(super) fn count(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    message_id: &str,
    usage: Usage,
) -> Result<(), Error> {
    let Some(agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    let key = CountedKey { agent_id };
    let mut counted = draft.tree.get(&key)?.unwrap_or_default();
    let Some(more) = counted.add(message_id, usage) else {
        return Ok(());
    };
    draft.put(&key, &counted);
    let today = budget::day_of(draft.now);
    // The last words of a run come when its hook is free already.
    let bead_id = agent.hook.or(agent.dispatch.session_bead_id);
    let key = UsageKey {
        day: today,
        agent_id,
        bead_id: bead_id.unwrap_or(NO_BEAD),
    };
    let so_far = draft.tree.get(&key)?.unwrap_or_default();
    draft.put(&key, &so_far.plus(more));
    let mut notes = draft.scheduler()?;
    notes.spent = budget::spent(&notes, today).plus(more);
    notes.day = today;
    if notes.budget_told != Some(today)
        && budget::reached(&notes.spent, &draft.config()?.budget).is_some()
    {
        draft.wake();
    }
    draft.set_scheduler(notes);
    Ok(())
}

/// What the agents used in the last `days` days, today included.
pub(super) fn report(
    tree: &Tree,
    days: u64,
    now: Timestamp,
) -> Result<UsageReport, storage::Error> {
    let today = budget::day_of(now);
    let notes = tree.get(&SchedulerKey {})?.unwrap_or_default();
    let mut report = UsageReport {
        today: budget::spent(&notes, today),
        ..UsageReport::default()
    };
    for day in today.saturating_sub(days.saturating_sub(1))..=today {
        for row in tree.scan(&UsageKey::of_day(day)) {
            let (key, usage) = row?;
            let bead_id = Some(key.bead_id).filter(|id| *id != NO_BEAD);
            report.total = report.total.plus(usage);
            for sum in [
                report.days.entry(day).or_default(),
                report.agents.entry(key.agent_id).or_default(),
                report.beads.entry(bead_id).or_default(),
            ] {
                *sum = sum.plus(usage);
            }
        }
    }
    Ok(report)
}

trait Count {
    /// Takes over a message's newest numbers; what they add to the count, if anything.
    fn add(&mut self, message_id: &str, usage: Usage) -> Option<Usage>;
}

impl Count for Counted {
    fn add(&mut self, message_id: &str, usage: Usage) -> Option<Usage> {
        let place = self
            .messages
            .iter()
            .position(|message| message.message_id == message_id);
        let before = match place {
            Some(place) => self.messages[place].usage,
            // Agent servers' ids rise: one below all that are remembered was counted long ago.
            None if self.messages.len() >= MESSAGES_MAX
                && self
                    .messages
                    .iter()
                    .all(|known| message_id < known.message_id.as_str()) =>
            {
                return None;
            }
            None => Usage::default(),
        };
        let more = usage.beyond(before);
        if more.is_zero() {
            return None;
        }
        if let Some(place) = place {
            self.messages.remove(place);
        } else if self.messages.len() >= MESSAGES_MAX {
            self.messages.remove(0);
        }
        self.messages.push(CountedMessage {
            message_id: message_id.to_owned(),
            // Numbers that fell are not given back, and so not counted again when they rise.
            usage: usage.most(before),
        });
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(output: u64) -> Usage {
        Usage {
            output,
            ..Usage::default()
        }
    }

    #[test]
    fn a_message_counts_as_much_as_its_last_word_says() {
        let mut counted = Counted::default();
        let said = [
            ("a", 10),
            ("a", 10),
            ("b", 3),
            ("a", 25),
            ("a", 20),
            ("a", 25),
        ];
        let added: Vec<_> = said
            .into_iter()
            .map(|(id, output)| counted.add(id, usage(output)).map(|more| more.output))
            .collect();
        assert_eq!(added, [Some(10), None, Some(3), Some(15), None, None]);
    }

    #[test]
    fn what_was_forgotten_is_not_counted_again() {
        let mut counted = Counted::default();
        for number in 0..2 * MESSAGES_MAX {
            assert!(counted.add(&format!("msg_{number:04}"), usage(1)).is_some());
        }
        assert_eq!(counted.messages.len(), MESSAGES_MAX);
        assert_eq!(counted.add("msg_0000", usage(1)), None);
        let newest = format!("msg_{:04}", 2 * MESSAGES_MAX - 1);
        assert_eq!(counted.add(&newest, usage(1)), None);
    }
}
