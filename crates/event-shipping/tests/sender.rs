//! The sender's limits, its order of lanes, and what it tells the aggregator of each lane.
#![allow(missing_docs)]

use bytes::Bytes;
use event_shipping::{
    Ack, Batch, BatchHeader, InFlight, InFlightLimits, LaneHello, LaneState, ProtocolViolation,
    PushError, Release, Sender, SentLane, Welcome,
};

const LIMITS: InFlightLimits = InFlightLimits {
    batches: 3,
    bytes: 100,
};
const JOURNAL: u64 = 7;

/// A batch with the events after `after` up to `last`.
fn batch(lane: u8, after: u64, last: u64, bytes: usize) -> Batch {
    let header = BatchHeader {
        lane,
        journal: JOURNAL,
        format_version: 1,
        after,
        first: after + 1,
        last,
        events: u32::try_from(last - after).expect("few events"),
        raw_bytes: 1,
        crc: 0,
        sealed_at: 0,
    };
    Batch {
        header,
        payload: Bytes::from(vec![0; bytes]),
    }
}

fn sender(lanes: impl IntoIterator<Item = u8>) -> Sender {
    let mut sender = Sender::new(LIMITS);
    for lane in lanes {
        sender.add_lane(SentLane {
            lane,
            journal: JOURNAL,
            acknowledged: 10,
            released: 4,
        });
    }
    sender
}

fn state(lane: u8, received: u64, taken: u64) -> LaneState {
    LaneState {
        lane,
        journal: JOURNAL,
        received,
        taken,
    }
}

fn welcome(lanes: impl IntoIterator<Item = LaneState>) -> Welcome {
    Welcome {
        lanes: lanes.into_iter().collect(),
        ..Welcome::default()
    }
}

fn ack(lane: u8, taken: u64) -> Ack {
    Ack {
        lane,
        journal: JOURNAL,
        taken,
    }
}

fn release(lane: u8, through: u64, skip: bool) -> Release {
    Release {
        lane,
        journal: JOURNAL,
        through,
        skip,
    }
}

fn sent(sender: &mut Sender) -> Vec<(u8, u64)> {
    let batches = std::iter::from_fn(|| sender.next_batch());
    batches
        .map(|batch| (batch.header.lane, batch.header.last))
        .collect()
}

#[test]
fn capacity_ends_at_the_limits_of_batches_and_bytes() {
    let mut sender = sender([1]);
    // A batch longer than the limit is sent alone.
    assert!(sender.has_capacity(LIMITS.bytes + 1));
    sender.push(batch(1, 10, 11, 60)).expect("next");
    assert!(sender.has_capacity(40) && !sender.has_capacity(41));
    sender.push(batch(1, 11, 12, 30)).expect("next");
    assert!(sender.has_capacity(10) && !sender.has_capacity(usize::MAX));
    sender.push(batch(1, 12, 13, 0)).expect("next");
    assert!(!sender.has_capacity(0), "three batches are the limit");
    let in_flight = |batches, bytes| InFlight { batches, bytes };
    assert_eq!(sender.in_flight(), in_flight(3, 90));
    sender.welcome(&welcome([state(1, 13, 11)])).expect("valid");
    assert_eq!(sender.in_flight(), in_flight(2, 30));
    assert!(sender.has_capacity(70) && !sender.has_capacity(71));
    assert_eq!(sender.ack(&ack(1, 13)), Ok(Some(release(1, 13, false))));
    assert_eq!(sender.in_flight(), in_flight(0, 0));
}

#[test]
fn only_the_next_batch_of_a_known_lane_is_accepted() {
    let mut sender = sender([1]);
    let not_next = |after, last| PushError::NotNext {
        lane: 1,
        pushed: 10,
        after,
        last,
    };
    for (batch, error) in [
        (batch(2, 10, 11, 1), PushError::UnknownLane(2)),
        (batch(1, 11, 12, 1), not_next(11, 12)),
        (batch(1, 8, 10, 1), not_next(8, 10)),
    ] {
        assert_eq!(sender.push(batch), Err(error));
    }
    assert_eq!(
        (sender.pushed(1, JOURNAL), sender.pushed(2, JOURNAL)),
        (Some(10), None)
    );
    // Of a batch that overlaps what was acknowledged, the rest is new.
    sender.push(batch(1, 9, 11, 1)).expect("next");
    assert_eq!(sender.pushed(1, JOURNAL), Some(11));
}

#[test]
fn lanes_send_in_turn_and_only_after_the_welcome() {
    let mut sender = sender([1, 2]);
    for (lane, after) in [(1, 10), (1, 11), (2, 10)] {
        sender.push(batch(lane, after, after + 1, 1)).expect("next");
    }
    assert_eq!(sent(&mut sender), []);
    let both = welcome([state(1, 10, 10), state(2, 10, 10)]);
    assert_eq!(sender.welcome(&both), Ok(Vec::new()));
    assert_eq!(sent(&mut sender), [(1, 11), (2, 11), (1, 12)]);
    sender.disconnected();
    assert_eq!(sent(&mut sender), []);
    // What the aggregator received is not sent again, and what it has is released.
    let received = welcome([state(1, 11, 10), state(2, 11, 11)]);
    assert_eq!(sender.welcome(&received), Ok(vec![release(2, 11, false)]));
    assert_eq!(sent(&mut sender), [(1, 12)]);
}

#[test]
fn received_batch_that_is_pushed_again_is_not_sent() {
    let mut sender = sender([1]);
    let received = welcome([state(1, 12, 10)]);
    assert_eq!(sender.welcome(&received), Ok(Vec::new()));
    for after in 10..13 {
        sender.push(batch(1, after, after + 1, 1)).expect("next");
    }
    assert_eq!(sent(&mut sender), [(1, 13)]);
    assert_eq!(sender.ack(&ack(1, 12)), Ok(Some(release(1, 12, false))));
    sender.push(batch(1, 13, 14, 1)).expect("next");
    assert_eq!(sent(&mut sender), [(1, 14)]);
}

#[test]
fn hello_states_what_was_acknowledged_and_released() {
    let mut sender = sender([1]);
    let lanes = |sender: &Sender| {
        let hello = sender.hello(3, "edge");
        assert_eq!((hello.node, &*hello.software), (3, "edge"));
        hello.lanes
    };
    let hello = |acknowledged, released| {
        vec![LaneHello {
            lane: 1,
            journal: JOURNAL,
            acknowledged,
            released,
        }]
    };
    assert_eq!(lanes(&sender), hello(10, 4));
    sender.set_released(1, JOURNAL, 9);
    assert_eq!(lanes(&sender), hello(10, 9));
    // Never more than was acknowledged.
    sender.set_released(1, JOURNAL, 11);
    assert_eq!(lanes(&sender), hello(10, 10));
    sender.set_released(2, JOURNAL, 1);
    // A lane that is added again keeps its state.
    sender.add_lane(SentLane {
        lane: 1,
        journal: JOURNAL,
        acknowledged: 0,
        released: 0,
    });
    assert_eq!(lanes(&sender), hello(10, 10));
}

#[test]
fn finished_lane_is_named_until_the_connection_ends() {
    let mut sender = sender([1, 2]);
    let lanes = |sender: &Sender| sender.hello(3, "edge").lanes.len();
    sender
        .welcome(&welcome([state(1, 10, 10), state(2, 10, 10)]))
        .expect("valid");
    sender.finish_lane(1, JOURNAL);
    assert_eq!(lanes(&sender), 2, "its last acknowledgement may arrive yet");
    assert_eq!(sender.ack(&ack(1, 10)), Ok(None));
    sender.disconnected();
    assert_eq!(lanes(&sender), 1);
    sender.finish_lane(2, JOURNAL);
    assert_eq!(lanes(&sender), 0);
}

#[test]
fn acknowledgement_beyond_the_pushed_events_skips_them() {
    let mut sender = sender([1]);
    sender.push(batch(1, 10, 11, 1)).expect("next");
    let skipped = sender.welcome(&welcome([state(1, 20, 15)]));
    assert_eq!(skipped, Ok(vec![release(1, 15, true)]));
    assert_eq!(sender.pushed(1, JOURNAL), Some(15));
    assert_eq!(sender.in_flight(), InFlight::default());
    // The aggregator received up to 20, which it may still acknowledge.
    assert_eq!(sender.ack(&ack(1, 20)), Ok(Some(release(1, 20, true))));
    let never_sent = ProtocolViolation::NeverSent {
        lane: 1,
        taken: 21,
        sent: 20,
    };
    assert_eq!(sender.ack(&ack(1, 21)), Err(never_sent));
    assert_eq!(sender.ack(&ack(1, 20)), Ok(None));
}

#[test]
fn contradictory_welcome_changes_nothing() {
    let inconsistent = |received, taken| ProtocolViolation::InconsistentAck {
        lane: 1,
        received,
        taken,
        acknowledged: 10,
    };
    for (lanes, error) in [
        (vec![], ProtocolViolation::MissingLane(1)),
        (
            vec![state(1, 10, 10), state(2, 0, 0)],
            ProtocolViolation::UnknownLane(2),
        ),
        (vec![state(1, 12, 13)], inconsistent(12, 13)),
        (vec![state(1, 9, 9)], inconsistent(9, 9)),
    ] {
        let mut sender = sender([1]);
        sender.push(batch(1, 10, 11, 1)).expect("next");
        assert_eq!(sender.welcome(&welcome(lanes)), Err(error));
        assert_eq!(sent(&mut sender), [], "it is not connected");
    }
}
