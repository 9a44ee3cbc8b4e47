//! The ledger: what happened to beads, who did it, and what was before and after.
//!
//! The town's feed of facts is the ledger; nothing is written twice. Indexes by bead, by rig and for
//! the whole town hold the sequences of the facts that are about a bead, so that a page costs what
//! it shows. What happened to a bead that is deleted stays in all of them.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::agent_log::{EventView, Slice};
use crate::model::{BeadId, Epoch, Json, RigId, Timestamp};
use crate::storage::{self, Batch, BeadEventKey, Count, LedgerKey, NO_RIG, RigKey, SegmentHead};

use super::handle::TownHandle;
use super::queries::Page;
use super::refusal::{Error, Refusal};

/// Older events in a row after which a list that is limited by time ends. Events are ordered by their
/// sequence and the clock may have been set back, so the first older one proves nothing.
const OLDER_IN_A_ROW_MAX: usize = 1000;

/// The names that events have in the ledger where they are not the fact's own.
const NAMES: &[(&str, &str)] = &[
    ("bead.created", "created"),
    ("bead.assigned", "assigned"),
    ("bead.hooked", "hooked"),
    ("bead.unhooked", "unhooked"),
    ("bead.status_changed", "status_changed"),
    ("bead.closed", "closed"),
    ("bead.deleted", "deleted"),
    ("bead.blocked", "blocked"),
    ("bead.unblocked", "unblocked"),
    ("escalation.created", "escalated"),
    ("agent.started", "agent_spawned"),
];

/// Which events are wanted; all conditions hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerFilter {
    /// Only about this bead.
    pub bead_id: Option<BeadId>,
    /// Only later than this.
    pub since: Option<Timestamp>,
}

/// Something that happened to a bead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEvent {
    /// The life of the town's feed; with `seq` it names the event.
    pub epoch: Epoch,
    /// Its place in the town's feed.
    pub seq: u64,
    /// The bead.
    pub bead_id: BeadId,
    /// The bead's rig.
    pub rig_id: Option<RigId>,
    /// The agent it is about.
    pub agent_id: Option<String>,
    /// Who did it: an agent's id or a word.
    pub actor: Option<String>,
    /// What it was, by its name in the ledger.
    pub event_type: String,
    /// What was before.
    pub old_value: Option<String>,
    /// What is now.
    pub new_value: Option<String>,
    /// Whatever else there is to know; an object.
    pub metadata: Json,
    /// When it happened.
    pub created_at: Timestamp,
}

#[derive(Deserialize)]
struct FactData<'a> {
    bead_id: Option<String>,
    rig_id: Option<String>,
    agent_id: Option<String>,
    // Facts of older versions name nobody.
    #[serde(default)]
    actor: Option<String>,
    old_value: Option<String>,
    new_value: Option<String>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Stages the index rows of an event about a bead.
pub(super) fn stage(batch: &mut Batch, bead_id: BeadId, rig_id: Option<RigId>, seq: u64) {
    let entry = Count { value: seq };
    batch.put(&BeadEventKey { bead_id, seq }, &entry);
    for rig_id in rig_id.into_iter().chain([NO_RIG]) {
        batch.put(&LedgerKey { rig_id, seq }, &entry);
    }
}

/// Stages the index rows of a whole segment of the feed; how many of its events are about beads.
pub(super) fn index(batch: &mut Batch, head: &SegmentHead, frames: &[u8]) -> usize {
    let mut count = 0;
    for (at, start) in head.offsets.iter().enumerate() {
        let end = head.offsets.get(at + 1).map(|end| *end as usize);
        let frame = frames.get(*start as usize..end.unwrap_or(frames.len()));
        let event = frame.and_then(EventView::of_frame);
        let event = event.and_then(|event| read(&event, Epoch::from_bytes([0; 16])));
        if let Some(event) = event {
            stage(batch, event.bead_id, event.rig_id, event.seq);
            count += 1;
        }
    }
    count
}

impl TownHandle {
    /// Events about beads of a rig (`None`: of the whole town), newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ledger(
        &self,
        rig_id: Option<RigId>,
        filter: LedgerFilter,
        page: Page,
    ) -> Result<Vec<LedgerEvent>, Error> {
        self.read(|tree| {
            if let Some(rig_id) = rig_id
                && !tree.contains(&RigKey { rig_id })?
            {
                return Ok(Err(Refusal::RigNotFound(rig_id)));
            }
            let seqs: Box<dyn Iterator<Item = Result<u64, storage::Error>>> = match filter.bead_id {
                Some(bead_id) => Box::new(
                    tree.scan(&BeadEventKey::of_bead(bead_id))
                        .rev()
                        .map(|row| Ok(row?.0.seq)),
                ),
                None => Box::new(
                    tree.scan(&LedgerKey::of_rig(rig_id.unwrap_or(NO_RIG)))
                        .rev()
                        .map(|row| Ok(row?.0.seq)),
                ),
            };
            self.gather(seqs, rig_id, filter, page).map(Ok)
        })
        .await?
        .map_err(Error::from)
    }

    fn gather(
        &self,
        seqs: impl Iterator<Item = Result<u64, storage::Error>>,
        rig_id: Option<RigId>,
        filter: LedgerFilter,
        page: Page,
    ) -> Result<Vec<LedgerEvent>, storage::Error> {
        let feed = &self.0.feed;
        let epoch = feed.position().epoch;
        let (mut events, mut to_skip, mut older) = (Vec::new(), page.offset, 0);
        for seq in seqs {
            let slice = feed.read_one(seq?)?;
            // Below the floor, or not durable yet.
            let Some(event) = slice.and_then(|slice| event_of(&slice, epoch)) else {
                continue;
            };
            if rig_id.is_some() && event.rig_id != rig_id {
                continue;
            }
            if filter.since.is_some_and(|since| event.created_at <= since) {
                older += 1;
                if older >= OLDER_IN_A_ROW_MAX {
                    break;
                }
                continue;
            }
            older = 0;
            if to_skip > 0 {
                to_skip -= 1;
                continue;
            }
            events.push(event);
            if events.len() >= page.limit {
                break;
            }
        }
        Ok(events)
    }
}

/// The first event of a slice, if it is about a bead.
fn event_of(slice: &Slice, epoch: Epoch) -> Option<LedgerEvent> {
    read(&EventView::of_frame(slice.frames().next()?)?, epoch)
}

fn read(event: &EventView<'_>, epoch: Epoch) -> Option<LedgerEvent> {
    let data: FactData<'_> = serde_json::from_str(event.data.get()).ok()?;
    Some(LedgerEvent {
        epoch,
        seq: event.id,
        bead_id: data.bead_id?.parse().ok()?,
        rig_id: data.rig_id.and_then(|id| id.parse().ok()),
        actor: data.actor.or_else(|| data.agent_id.clone()),
        agent_id: data.agent_id,
        event_type: name_of(&event.event_type),
        old_value: data.old_value,
        new_value: data.new_value,
        metadata: Json::from_valid(data.metadata.get()),
        created_at: Timestamp::parse(&event.timestamp)?,
    })
}

/// A fact's name in the ledger.
fn name_of(event_type: &str) -> String {
    let own = NAMES.iter().find(|(fact, _)| *fact == event_type);
    own.map_or_else(
        || event_type.replace('.', "_"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_have_the_names_that_clients_know() {
        let known = [
            ("bead.created", "created"),
            ("bead.closed", "closed"),
            ("escalation.created", "escalated"),
            ("mail.sent", "mail_sent"),
            ("review.submitted", "review_submitted"),
            ("review.completed", "review_completed"),
            ("agent.started", "agent_spawned"),
            ("agent.exited", "agent_exited"),
        ];
        for (fact, name) in known {
            assert_eq!(name_of(fact), name);
        }
    }
}
