//! Rows and the index rows that follow from them, staged together.

use crate::model::{
    Agent, AgentId, Bead, BeadId, BeadStatus, Convoy, Mail, Molecule, MoleculeId, Priority, Review,
    Rig, RigId,
};
use crate::storage::{
    AgentActive, AgentByIdentity, AgentByName, AgentByRig, AgentByRole, AgentKey, Batch,
    BeadByAssignee, BeadByConvoy, BeadByKind, BeadByParent, BeadByRig, BeadByStatus, BeadByTown,
    BeadDependent, BeadKey, BeadReady, BeadSlung, ConvoyKey, Count, Error, Key, MailBySender,
    MailKey, MailUndelivered, MoleculeKey, NO_RIG, NudgeByExpiry, Pointer, ReviewBySource,
    ReviewByStatus, ReviewKey, RigByName, RigKey, RigPaused, Tree,
};

/// A row with an id of its own.
pub(super) trait Row: Clone + PartialEq {
    type Id: Copy + Ord;

    fn load(tree: &Tree, id: Self::Id) -> Result<Option<Self>, Error>;

    /// Stages the change from `before` to `after`, with every index row.
    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>);
}

/// Stages one index entry: `None` where the row is not in that index.
fn index<K>(batch: &mut Batch, before: Option<K>, after: Option<K>, entry: &K::Row)
where
    K: Key + PartialEq,
{
    if before == after {
        return;
    }
    if let Some(key) = before {
        batch.delete(&key);
    }
    if let Some(key) = after {
        batch.put(&key, entry);
    }
}

impl Row for Rig {
    type Id = RigId;

    fn load(tree: &Tree, rig_id: RigId) -> Result<Option<Self>, Error> {
        tree.get(&RigKey { rig_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        batch.set(&RigKey { rig_id: any.rig_id }, after);
        let entry = Pointer { id: any.rig_id };
        let by_name = |rig: &Self| RigByName {
            name: rig.name.clone(),
        };
        index(batch, before.map(by_name), after.map(by_name), &entry);
        let paused = |rig: &Self| rig.paused.then_some(RigPaused { rig_id: rig.rig_id });
        index(
            batch,
            before.and_then(paused),
            after.and_then(paused),
            &entry,
        );
    }
}

impl Row for Bead {
    type Id = BeadId;

    fn load(tree: &Tree, bead_id: BeadId) -> Result<Option<Self>, Error> {
        tree.get(&BeadKey { bead_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        let entry = Pointer { id: any.bead_id };
        batch.set(
            &BeadKey {
                bead_id: any.bead_id,
            },
            after,
        );
        let by_town = |bead: &Self| BeadByTown { seq: bead.seq };
        index(batch, before.map(by_town), after.map(by_town), &entry);
        let by_rig = |bead: &Self| {
            bead.rig_id.map(|rig_id| BeadByRig {
                rig_id,
                seq: bead.seq,
            })
        };
        index(
            batch,
            before.and_then(by_rig),
            after.and_then(by_rig),
            &entry,
        );
        let by_status = |bead: &Self| BeadByStatus {
            status: bead.status,
            seq: bead.seq,
        };
        index(batch, before.map(by_status), after.map(by_status), &entry);
        let by_agent = |bead: &Self| {
            bead.assignee_agent_id.map(|agent_id| BeadByAssignee {
                agent_id,
                seq: bead.seq,
            })
        };
        index(
            batch,
            before.and_then(by_agent),
            after.and_then(by_agent),
            &entry,
        );
        index(
            batch,
            before.and_then(slung_key),
            after.and_then(slung_key),
            &entry,
        );
        stage_bead_lists(batch, before, after, &entry);
    }
}

/// The lists of beads by what they are and how they hang together.
fn stage_bead_lists(
    batch: &mut Batch,
    before: Option<&Bead>,
    after: Option<&Bead>,
    entry: &Pointer<BeadId>,
) {
    let by_kind = |bead: &Bead| BeadByKind {
        rig_id: bead.rig_id.unwrap_or(NO_RIG),
        bead_type: bead.bead_type,
        status: bead.status,
        seq: bead.seq,
    };
    index(batch, before.map(by_kind), after.map(by_kind), entry);
    let ready = |bead: &Bead| {
        let rig_id = bead.rig_id?;
        let seq = bead.seq;
        (bead.status == BeadStatus::Open && bead.is_ready()).then_some(BeadReady { rig_id, seq })
    };
    index(batch, before.and_then(ready), after.and_then(ready), entry);
    let by_parent = |bead: &Bead| {
        let seq = bead.seq;
        bead.parent_bead_id.map(|parent_bead_id| BeadByParent {
            parent_bead_id,
            seq,
        })
    };
    index(
        batch,
        before.and_then(by_parent),
        after.and_then(by_parent),
        entry,
    );
    let by_convoy = |bead: &Bead| {
        let seq = bead.seq;
        bead.convoy_id
            .map(|convoy_id| BeadByConvoy { convoy_id, seq })
    };
    index(
        batch,
        before.and_then(by_convoy),
        after.and_then(by_convoy),
        entry,
    );
    stage_dependents(batch, before, after);
}

fn stage_dependents(batch: &mut Batch, before: Option<&Bead>, after: Option<&Bead>) {
    let dependencies = |bead: Option<&Bead>| {
        bead.map(|bead| bead.dependencies.clone())
            .unwrap_or_default()
    };
    let (old, new) = (dependencies(before), dependencies(after));
    let Some(bead) = after.or(before).filter(|_| old != new) else {
        return;
    };
    let key = |on_bead_id| BeadDependent {
        on_bead_id,
        bead_id: bead.bead_id,
    };
    for gone in &old {
        batch.delete(&key(gone.on_bead_id));
    }
    for dependency in &new {
        batch.put(&key(dependency.on_bead_id), &Count { value: bead.seq });
    }
}

impl Row for Convoy {
    type Id = BeadId;

    fn load(tree: &Tree, convoy_id: BeadId) -> Result<Option<Self>, Error> {
        tree.get(&ConvoyKey { convoy_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        let convoy_id = any.convoy_id;
        batch.set(&ConvoyKey { convoy_id }, after);
    }
}

impl Row for Molecule {
    type Id = MoleculeId;

    fn load(tree: &Tree, molecule_id: MoleculeId) -> Result<Option<Self>, Error> {
        tree.get(&MoleculeKey { molecule_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        let molecule_id = any.molecule_id;
        batch.set(&MoleculeKey { molecule_id }, after);
    }
}

/// Where a bead stands among those that wait for a polecat, if it is one of them.
pub(super) fn slung_key(bead: &Bead) -> Option<BeadSlung> {
    let waits = bead.slung
        && bead.status == BeadStatus::Open
        && bead.assignee_agent_id.is_none()
        && bead.is_ready();
    Some(BeadSlung {
        rig_id: bead.rig_id.filter(|_| waits)?,
        rank: match bead.priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Medium => 2,
            Priority::Low => 3,
        },
        seq: bead.seq,
    })
}

impl Row for Agent {
    type Id = AgentId;

    fn load(tree: &Tree, agent_id: AgentId) -> Result<Option<Self>, Error> {
        tree.get(&AgentKey { agent_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        let entry = Pointer { id: any.agent_id };
        batch.set(
            &AgentKey {
                agent_id: any.agent_id,
            },
            after,
        );
        let by_rig = |agent: &Self| {
            agent.rig_id.map(|rig_id| AgentByRig {
                rig_id,
                seq: agent.seq,
            })
        };
        index(
            batch,
            before.and_then(by_rig),
            after.and_then(by_rig),
            &entry,
        );
        let active = |agent: &Self| {
            let is_active = agent.hook.is_some() || agent.dispatch.requested_at.is_some();
            is_active.then_some(AgentActive { seq: agent.seq })
        };
        index(
            batch,
            before.and_then(active),
            after.and_then(active),
            &entry,
        );
        let by_role = |agent: &Self| AgentByRole {
            role: agent.role,
            seq: agent.seq,
        };
        index(batch, before.map(by_role), after.map(by_role), &entry);
        let by_name = |agent: &Self| AgentByName {
            name: agent.name.clone(),
        };
        index(batch, before.map(by_name), after.map(by_name), &entry);
        let by_identity = |agent: &Self| AgentByIdentity {
            identity: agent.identity.clone(),
        };
        index(
            batch,
            before.map(by_identity),
            after.map(by_identity),
            &entry,
        );
    }
}

impl Row for Review {
    type Id = BeadId;

    fn load(tree: &Tree, entry_id: BeadId) -> Result<Option<Self>, Error> {
        tree.get(&ReviewKey { entry_id })
    }

    fn stage(batch: &mut Batch, before: Option<&Self>, after: Option<&Self>) {
        let Some(any) = after.or(before) else { return };
        batch.set(
            &ReviewKey {
                entry_id: any.entry_id,
            },
            after,
        );
        let by_status = |review: &Self| ReviewByStatus {
            status: review.status,
            seq: review.seq,
        };
        let entry = Pointer { id: any.entry_id };
        index(batch, before.map(by_status), after.map(by_status), &entry);
        // One that is finished is looked for by nobody; a bead has at most one other.
        let by_source = |review: &Self| {
            (!review.status.is_finished()).then_some(ReviewBySource {
                source_bead_id: review.source_bead_id,
            })
        };
        index(
            batch,
            before.and_then(by_source),
            after.and_then(by_source),
            &entry,
        );
    }
}

/// Mail is written once and marked once, so it needs no entry in a draft's tables.
pub(super) fn stage_mail(batch: &mut Batch, mail: &Mail) {
    let Mail {
        to_agent_id, seq, ..
    } = *mail;
    batch.put(&MailKey { to_agent_id, seq }, mail);
    if let Some(by_sender) = by_sender(mail) {
        batch.put(&by_sender, &Pointer { id: to_agent_id });
    }
    let waits = mail.delivered_at.is_none() && mail.dropped.is_none();
    let waiting = MailUndelivered { to_agent_id, seq };
    if waits {
        batch.put(&waiting, &Count { value: seq });
    } else {
        batch.delete(&waiting);
    }
    if let Some(by_expiry) = by_expiry(mail) {
        if waits {
            batch.put(&by_expiry, &Pointer { id: to_agent_id });
        } else {
            batch.delete(&by_expiry);
        }
    }
}

pub(super) fn stage_mail_removal(batch: &mut Batch, mail: &Mail) {
    let Mail {
        to_agent_id, seq, ..
    } = *mail;
    batch.delete(&MailKey { to_agent_id, seq });
    batch.delete(&MailUndelivered { to_agent_id, seq });
    if let Some(by_sender) = by_sender(mail) {
        batch.delete(&by_sender);
    }
    if let Some(by_expiry) = by_expiry(mail) {
        batch.delete(&by_expiry);
    }
}

/// Mail of people and of the town itself is in no outbox.
fn by_sender(mail: &Mail) -> Option<MailBySender> {
    let from_agent_id = mail.from_agent_id.parse().ok()?;
    Some(MailBySender {
        from_agent_id,
        seq: mail.seq,
    })
}

fn by_expiry(mail: &Mail) -> Option<NudgeByExpiry> {
    Some(NudgeByExpiry {
        expires_at: u64::try_from(mail.expires_at?.as_millis()).unwrap_or(0),
        seq: mail.seq,
    })
}
