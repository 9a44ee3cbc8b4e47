//! The spool: what is held, from where a link goes on, and how the bound is kept.

use std::task::Poll;

use super::spool::{Position, Spool, encode};
use crate::container::protocol::ContainerMessage;
use crate::model::{AgentId, Epoch, Timestamp};

fn filled(count: u64) -> Spool {
    let spool = Spool::bounded(1 << 20, 4);
    for _ in 0..count {
        spool.append(None, "agent.idle", "{}", Timestamp::from_millis(0));
    }
    spool
}

#[test]
fn a_message_is_one_frame_with_the_payload_as_it_came() {
    let agent = AgentId::random();
    for (size, header) in [(10, 4), (1_000, 4), (70_000, 10)] {
        let data = format!("{{\"a\" : \"{}\"}}", "x".repeat(size));
        let frame = encode(
            7,
            Some(agent),
            "message.updated",
            &data,
            Timestamp::from_millis(0),
        );
        let message: ContainerMessage<'_> = serde_json::from_slice(&frame[header..]).unwrap();
        assert_eq!((message.seq, message.agent_id), (7, Some(agent)));
        assert_eq!(message.message_type, "message.updated");
        assert_eq!(message.data.get(), data);
        assert_eq!(frame[0], 0x81);
    }
}

#[test]
fn a_link_goes_on_behind_what_the_server_has() {
    let spool = filled(3);
    let own = Some(spool.epoch());
    let check = |epoch, after_seq, next_seq, recovered| {
        let found = spool.resume(epoch, after_seq);
        assert_eq!(
            found,
            Position {
                next_seq,
                recovered
            }
        );
    };
    check(None, 0, 1, false);
    check(Some(Epoch::random()), 2, 1, false);
    check(own, 9, 1, false);
    check(own, 0, 1, true);
    check(own, 2, 3, true);
    check(own, 1, 3, false);
    check(own, 3, 4, true);
}

#[tokio::test]
async fn a_full_spool_has_no_room_until_something_is_acknowledged() {
    let spool = filled(4);
    let mut room = Box::pin(spool.room());
    assert!(matches!(futures_poll(room.as_mut()), Poll::Pending));
    spool.acknowledge(1);
    room.await;
    let (frames, next) = spool.frames(1, 64).await;
    assert_eq!((frames.len(), next), (3, 5));
    spool.acknowledge(4);
    spool.emptied().await;
}

/// Polls once without waiting.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context)
}
