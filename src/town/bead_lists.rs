//! Lists of beads, newest first. Each condition has an index, and a list reads from the one that is
//! nearest to its answer, so that it costs what it answers and not what the town holds.

use std::iter::Peekable;

use crate::model::{AgentId, Bead, BeadId, BeadStatus, BeadType, RigId};
use crate::storage::{
    BeadByAssignee, BeadByConvoy, BeadByKind, BeadByParent, BeadByRig, BeadKey, BeadReady, Error,
    Key, Pointer, Prefix, Tree,
};

use super::queries::Page;

/// Which beads of a rig are wanted; all conditions hold.
#[derive(Clone, Debug, Default)]
pub struct BeadFilter {
    /// Only of this status.
    pub status: Option<BeadStatus>,
    /// Only of this type.
    pub bead_type: Option<BeadType>,
    /// Only assigned to this agent.
    pub assignee: Option<AgentId>,
    /// Only parts of this bead.
    pub parent: Option<BeadId>,
    /// Only of this convoy.
    pub convoy: Option<BeadId>,
    /// `true`: open and waiting for no other. `false`: open and waiting.
    pub ready: Option<bool>,
}

/// One entry of an index: its place in the order of creation, and whose it is.
type Entry = Result<(u64, BeadId), Error>;
type Entries = Box<dyn Iterator<Item = Entry>>;

/// Beads of a rig, newest first.
pub(super) fn beads(
    tree: &Tree,
    rig_id: RigId,
    filter: &BeadFilter,
    page: Page,
) -> Result<Vec<Bead>, Error> {
    let (entries, is_exact) = entries(tree, rig_id, filter);
    // Where the index alone knows, what the offset leaves out is not even read.
    let (skip_entries, skip_beads) = if is_exact {
        (page.offset, 0)
    } else {
        (0, page.offset)
    };
    let beads = entries.skip(skip_entries).filter_map(|entry| {
        entry
            .and_then(|(_, bead_id)| tree.get(&BeadKey { bead_id }))
            .transpose()
    });
    let wanted = beads.filter(|bead| {
        bead.as_ref()
            .map_or(true, |bead| fits(bead, rig_id, filter))
    });
    wanted.skip(skip_beads).take(page.limit).collect()
}

/// Open beads of a rig, newest first.
pub(super) fn open_of_rig(
    tree: &Tree,
    rig_id: RigId,
) -> impl Iterator<Item = Result<BeadId, Error>> + use<> {
    let open = kinds(tree, rig_id, None, Some(BeadStatus::Open));
    open.map(|entry| entry.map(|(_, bead_id)| bead_id))
}

/// Beads of one type of a rig or, with `NO_RIG`, of the town itself, newest first.
pub(super) fn of_type(
    tree: &Tree,
    rig_id: RigId,
    bead_type: BeadType,
    status: Option<BeadStatus>,
) -> impl Iterator<Item = Result<BeadId, Error>> + use<> {
    let entries = kinds(tree, rig_id, Some(bead_type), status);
    entries.map(|entry| entry.map(|(_, bead_id)| bead_id))
}

fn fits(bead: &Bead, rig_id: RigId, filter: &BeadFilter) -> bool {
    bead.rig_id == Some(rig_id)
        && filter.status.is_none_or(|status| bead.status == status)
        && filter.bead_type.is_none_or(|of| bead.bead_type == of)
        && (filter.assignee).is_none_or(|agent_id| bead.assignee_agent_id == Some(agent_id))
        && (filter.parent).is_none_or(|parent| bead.parent_bead_id == Some(parent))
        && (filter.convoy).is_none_or(|convoy_id| bead.convoy_id == Some(convoy_id))
        && (filter.ready)
            .is_none_or(|ready| bead.status == BeadStatus::Open && bead.is_ready() == ready)
}

/// The nearest index, and whether each of its entries fits the whole filter.
fn entries(tree: &Tree, rig_id: RigId, filter: &BeadFilter) -> (Entries, bool) {
    if let Some(convoy_id) = filter.convoy {
        return (newest(tree, &BeadByConvoy::of_convoy(convoy_id)), false);
    }
    if let Some(parent) = filter.parent {
        return (newest(tree, &BeadByParent::of_parent(parent)), false);
    }
    if let Some(agent_id) = filter.assignee {
        return (newest(tree, &BeadByAssignee::of_agent(agent_id)), false);
    }
    let BeadFilter {
        status, bead_type, ..
    } = *filter;
    match filter.ready {
        Some(true) => {
            let is_exact = status.is_none() && bead_type.is_none();
            (newest(tree, &BeadReady::of_rig(rig_id)), is_exact)
        }
        Some(false) => {
            let open = status.unwrap_or(BeadStatus::Open);
            (kinds(tree, rig_id, bead_type, Some(open)), false)
        }
        None if status.is_none() && bead_type.is_none() => {
            (newest(tree, &BeadByRig::of_rig(rig_id)), true)
        }
        None => (kinds(tree, rig_id, bead_type, status), true),
    }
}

/// The entries of those types and statuses, newest first.
fn kinds(
    tree: &Tree,
    rig_id: RigId,
    bead_type: Option<BeadType>,
    status: Option<BeadStatus>,
) -> Entries {
    let types = bead_type.map_or(BeadType::ALL.to_vec(), |one| vec![one]);
    let statuses = status.map_or(BeadStatus::ALL.to_vec(), |one| vec![one]);
    let parts = types.iter().flat_map(|bead_type| {
        statuses.iter().map(|status| {
            newest(tree, &BeadByKind::of_kind(rig_id, *bead_type, *status)).peekable()
        })
    });
    let parts: Vec<_> = parts.collect();
    Box::new(Merged { parts })
}

/// The key of an index that ends in the order of creation.
trait BySeq: Key<Row = Pointer<BeadId>> {
    fn seq(&self) -> u64;
}

macro_rules! by_seq {
    ($($key:ident),+) => {$(
        impl BySeq for $key {
            fn seq(&self) -> u64 {
                self.seq
            }
        }
    )+};
}
by_seq!(
    BeadByAssignee,
    BeadByConvoy,
    BeadByKind,
    BeadByParent,
    BeadByRig,
    BeadReady
);

fn newest<K: BySeq + 'static>(tree: &Tree, prefix: &Prefix<K>) -> Entries {
    let rows = tree.scan(prefix).rev();
    Box::new(rows.map(|row| row.map(|(key, to)| (key.seq(), to.id))))
}

/// Several lists, each newest first, as one.
struct Merged {
    parts: Vec<Peekable<Entries>>,
}

impl Iterator for Merged {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut newest: Option<(usize, u64)> = None;
        for (at, part) in self.parts.iter_mut().enumerate() {
            match part.peek() {
                Some(Ok((seq, _))) if newest.is_none_or(|(_, other)| *seq > other) => {
                    newest = Some((at, *seq));
                }
                // Whatever is wrong with the disk is said at once.
                Some(Err(_)) => return part.next(),
                _ => {}
            }
        }
        self.parts[newest?.0].next()
    }
}
