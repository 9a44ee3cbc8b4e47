//! A look at the whole tree: rows and indexes agree, and the feed has no gap.

use std::collections::BTreeMap;

use crate::model::BeadStatus;
use crate::storage::{
    AgentKey, Batch, BeadByConvoy, BeadKey, ConvoyKey, Key, MailKey, MoleculeKey, Prefix,
    ReviewKey, RigKey, SegmentKey, Tree,
};
use crate::town::rows::{self, Row};

use super::checks::agent_is_sound;

/// Tags of rows that follow from no other row.
const OWN: &[u8] = &[
    0x01, // the town
    0x10, 0x11, // the feed
    0x12, // the link's place
    0x13, // the counter
    0x14, // the config
    0x15, // the alarm of older releases
    0x16, // a bead's events
    0x17, // what escalations are about
    0x19, 0x24, 0x25, // what is counted, the scheduler's notes, usage
    0x2D, // the ledger
    0x2F, // what gates printed
    0x32, 0x33, // asks, and how often an escalation was raised
    0x36, 0x37, 0x38, // answers that are kept
    0x39, // which indexes are whole
    0x3A, // the container
];

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn check(tree: &Tree) {
    indexes_agree(tree);
    the_feed_is_contiguous(tree);
    convoys_are_sound(tree);
    for row in tree.scan(&AgentKey::all()) {
        agent_is_sound("the whole", &row.unwrap().1, tree);
    }
}

/// A convoy counts its beads right, and one that has landed has no open one.
fn convoys_are_sound(tree: &Tree) {
    for row in tree.scan(&ConvoyKey::all()) {
        let convoy = row.unwrap().1;
        let members = tree.scan(&BeadByConvoy::of_convoy(convoy.convoy_id));
        let statuses: Vec<BeadStatus> = members
            .map(|row| {
                let bead_id = row.unwrap().1.id;
                tree.get(&BeadKey { bead_id }).unwrap().unwrap().status
            })
            .collect();
        let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
        let counted = [convoy.total, convoy.closed, convoy.failed].map(|count| count as usize);
        let (closed, failed) = (count(BeadStatus::Closed), count(BeadStatus::Failed));
        assert_eq!(counted, [statuses.len(), closed, failed], "{convoy:?}");
        let key = BeadKey {
            bead_id: convoy.convoy_id,
        };
        let bead = tree.get(&key).unwrap().unwrap();
        if convoy.landed_at.is_some() {
            assert_eq!(closed, statuses.len(), "a landed convoy has open beads");
            assert_eq!(bead.status, BeadStatus::Closed, "{bead:?}");
        } else {
            assert_ne!(closed, statuses.len(), "a convoy did not land: {convoy:?}");
        }
    }
}

/// Everything that is stored is what the rows, staged anew, would store.
fn indexes_agree(tree: &Tree) {
    let mut expected = Rows::new();
    restage(tree, &RigKey::all(), &mut expected);
    restage(tree, &AgentKey::all(), &mut expected);
    restage(tree, &BeadKey::all(), &mut expected);
    restage(tree, &ReviewKey::all(), &mut expected);
    restage(tree, &ConvoyKey::all(), &mut expected);
    restage(tree, &MoleculeKey::all(), &mut expected);
    for row in tree.scan(&MailKey::all()) {
        let mut batch = Batch::new();
        rows::stage_mail(&mut batch, &row.unwrap().1);
        take(&batch, &mut expected);
    }
    let mut stored = tree.dump();
    stored.retain(|key, _| !OWN.contains(&key[0]));
    for (key, value) in &stored {
        assert_eq!(
            expected.get(key),
            Some(value),
            "a row that follows from no other: tag {:#04x}, {key:02x?}",
            key[0]
        );
    }
    for key in expected.keys() {
        assert!(
            stored.contains_key(key),
            "an index lacks a row: tag {:#04x}, {key:02x?}",
            key[0]
        );
    }
}

fn restage<K: Key>(tree: &Tree, all: &Prefix<K>, expected: &mut Rows)
where
    K::Row: Row,
{
    for row in tree.scan(all) {
        let mut batch = Batch::new();
        K::Row::stage(&mut batch, None, Some(&row.unwrap().1));
        take(&batch, expected);
    }
}

fn take(batch: &Batch, expected: &mut Rows) {
    let puts = batch.puts();
    expected.extend(puts.map(|(key, value)| (key.to_vec(), value.to_vec())));
}

fn the_feed_is_contiguous(tree: &Tree) {
    let mut next = 1;
    for row in tree.scan_from(&SegmentKey { first_id: 0 }).unwrap() {
        let (head, _) = row.unwrap().into_parts();
        assert_eq!(head.first_id, next, "the feed has a gap");
        next += head.offsets.len() as u64;
    }
}
