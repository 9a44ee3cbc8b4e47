use super::super::codec::{decode, encode};
use super::*;

fn bead() -> Bead {
    Bead {
        bead_id: BeadId::from_bytes([1; 16]),
        seq: 2,
        bead_type: BeadType::Issue,
        status: BeadStatus::Open,
        title: "t".to_owned(),
        body: None,
        rig_id: Some(RigId::from_bytes([3; 16])),
        parent_bead_id: None,
        assignee_agent_id: None,
        priority: Priority::High,
        labels: vec!["a".to_owned()],
        metadata: Json::empty_object(),
        created_by: None,
        failure: None,
        created_at: Timestamp::from_millis(5),
        updated_at: Timestamp::from_millis(6),
        closed_at: None,
        convoy_id: None,
        molecule_id: None,
        dependencies: Vec::new(),
        blockers_open: 0,
        slung: false,
    }
}

/// The format of a released bead, which rows of it keep for ever. If this fails the format has
/// changed other than by a field that is added: that needs a migration.
#[test]
fn golden_bead() {
    let mut expected = vec![1];
    expected.extend([1; 16]);
    expected.extend(2u64.to_le_bytes());
    expected.extend([1, 1]);
    expected.extend(1u64.to_le_bytes());
    expected.extend(b"t\x00\x01");
    expected.extend([3; 16]);
    expected.extend([0, 0, 3]);
    expected.extend(1u64.to_le_bytes());
    expected.extend(1u64.to_le_bytes());
    expected.extend(b"a");
    expected.extend(2u64.to_le_bytes());
    expected.extend(b"{}\x00\x00");
    expected.extend(5i64.to_le_bytes());
    expected.extend(6i64.to_le_bytes());
    expected.push(0);
    assert_eq!(decode::<Bead>(&expected).unwrap(), bead());
    // What was added since: no convoy, no molecule, no dependencies, no open blockers, not slung.
    expected[0] = 2;
    expected.extend([0, 0]);
    expected.extend(0u64.to_le_bytes());
    expected.extend(0u32.to_le_bytes());
    expected.push(0);
    assert_eq!(decode::<Bead>(&expected).unwrap(), bead());
    // Layouts 3 and 4 added nothing to beads.
    expected[0] = 4;
    assert_eq!(encode(&bead()), expected);
    assert_eq!(decode::<Bead>(&expected).unwrap(), bead());
}

#[test]
fn damaged_rows_are_errors() {
    let whole = encode(&bead());
    for end in 0..whole.len() {
        assert!(decode::<Bead>(&whole[..end]).is_err(), "cut at {end}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(decode::<Bead>(&longer).is_err());
    let mut newer = whole;
    newer[0] = 9;
    assert!(decode::<Bead>(&newer).is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        let _ = decode::<Bead>(&bytes);
        let _ = decode::<Agent>(&bytes);
        let _ = decode::<SegmentHead>(&bytes);
    }
}

/// A mail and a review as layout 2 wrote them, before they had types and approvals.
#[test]
fn rows_of_layout_2_lack_what_layout_3_added() {
    let mail = Mail {
        mail_id: MailId::from_bytes([1; 16]),
        seq: 2,
        from_agent_id: "user".to_owned(),
        to_agent_id: AgentId::from_bytes([3; 16]),
        subject: "s".to_owned(),
        body: "b".to_owned(),
        created_at: Timestamp::from_millis(5),
        delivered_at: None,
        mail_type: MailType::Message,
        expires_at: None,
        about_bead_id: None,
        dropped: None,
    };
    let mut old = encode(&mail);
    // One byte each: the type, and three that are not there.
    old.truncate(old.len() - 4);
    old[0] = 2;
    assert_eq!(decode::<Mail>(&old).unwrap(), mail);
    old[0] = 3;
    assert!(decode::<Mail>(&old).is_err());
}
