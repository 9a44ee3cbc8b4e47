use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn no_byte_means_two_keys() {
    let tags: BTreeSet<u8> = TAGS.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags.len(), TAGS.len());
    assert!(!tags.contains(&0xFF), "0xFF is the chunks'");
}

#[test]
fn golden_bytes() {
    let rig_id = RigId::from_bytes([7; 16]);
    let key = BeadByRig { rig_id, seq: 258 };
    let mut expected = vec![0x05];
    expected.extend_from_slice(&[7; 16]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(key.encode(), expected);
    let by_status = BeadByStatus {
        status: BeadStatus::Closed,
        seq: 1,
    };
    assert_eq!(by_status.encode(), [6, 3, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(
        AgentByName {
            name: "Toast".to_owned()
        }
        .encode(),
        b"\x0AToast"
    );
}

fn check<K: Key + PartialEq + std::fmt::Debug>(key: &K) {
    let bytes = key.encode();
    assert_eq!(&K::decode(&bytes).unwrap(), key);
    assert!(K::decode(&[]).is_err());
}

proptest! {
    #[test]
    fn encode_and_decode_are_inverses(id: [u8; 16], seq: u64, name in ".{0,40}") {
        check(&BeadKey { bead_id: BeadId::from_bytes(id) });
        check(&BeadByRig { rig_id: RigId::from_bytes(id), seq });
        check(&BeadByStatus { status: BeadStatus::Failed, seq });
        check(&MailKey { to_agent_id: AgentId::from_bytes(id), seq });
        check(&AgentByIdentity { identity: name });
        check(&SegmentKey { first_id: seq });
    }

    #[test]
    fn the_order_of_bytes_is_the_order_of_numbers(a: u64, b: u64, id: [u8; 16]) {
        let rig_id = RigId::from_bytes(id);
        let key = |seq| BeadByRig { rig_id, seq }.encode();
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        let _ = BeadByRig::decode(&bytes);
        let _ = ReviewByStatus::decode(&bytes);
        let _ = AgentByName::decode(&bytes);
    }
}
