//! Simulates an edge and an aggregator in memory, with lost connections and restarts at any moment:
//! every event is stored exactly once and in order.

use event_shipping::{
    Ack, Batch, BatchDecision, BatchHeader, ClaimResult, DisputeKind, HeldSequences,
    InFlightLimits, LaneBounds, LaneHello, LaneKey, LaneState, LaneTable, ProtocolViolation,
    Sender, SentLane, TooManyLanes, Welcome,
};
use proptest::prelude::*;
use std::collections::VecDeque;

const NODE: u16 = 7;
const ALL_SEQUENCES: HeldSequences = HeldSequences {
    highest_assigned: u64::MAX,
    last: u64::MAX,
};
const JOURNALS: [(u8, u64); 2] = [(0, 11), (1, 12)];

#[derive(Debug, Clone)]
enum Step {
    Append { lane: usize, skip: u64 },
    Seal { lane: usize, events: usize },
    Send,
    Deliver,
    DeliverAgain,
    Block,
    Insert,
    DeliverAck,
    Connect,
    Break,
    RestartEdge,
    RestartAggregator { forget: bool },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, prop_oneof![5 => Just(1), 1 => 2..9_u64])
            .prop_map(|(lane, skip)| Step::Append { lane, skip }),
        4 => (0..2_usize, 1..6_usize).prop_map(|(lane, events)| Step::Seal { lane, events }),
        5 => Just(Step::Send),
        5 => Just(Step::Deliver),
        1 => Just(Step::DeliverAgain),
        2 => Just(Step::Block),
        2 => Just(Step::Insert),
        3 => Just(Step::DeliverAck),
        3 => Just(Step::Connect),
        1 => Just(Step::Break),
        1 => Just(Step::RestartEdge),
        1 => any::<bool>().prop_map(|forget| Step::RestartAggregator { forget }),
    ]
}

#[derive(Clone)]
struct AcceptedBatch {
    key: LaneKey,
    header: BatchHeader,
    skip_through: u64,
}

/// Both sides and the messages in transit.
struct World {
    journals: [Vec<u64>; 2],
    released: [u64; 2],
    sender: Sender,
    lanes: LaneTable,
    pending: Vec<AcceptedBatch>,
    /// The batches in a block file on disk.
    block: Vec<AcceptedBatch>,
    stored: [Vec<u64>; 2],
    to_aggregator: VecDeque<Batch>,
    delivered: Option<Batch>,
    to_edge: VecDeque<Ack>,
    connected: Option<Welcome>,
}

fn new_sender(released: [u64; 2]) -> Sender {
    let limits = InFlightLimits {
        batches: 4,
        bytes: 1 << 20,
    };
    let mut sender = Sender::new(limits);
    for (lane, (number, journal)) in JOURNALS.into_iter().enumerate() {
        sender.add_lane(SentLane {
            lane: number,
            journal,
            acknowledged: released[lane],
            released: released[lane],
        });
    }
    sender
}

impl World {
    fn new() -> Self {
        Self {
            journals: [Vec::new(), Vec::new()],
            released: [0; 2],
            sender: new_sender([0; 2]),
            lanes: LaneTable::default(),
            pending: Vec::new(),
            block: Vec::new(),
            stored: [Vec::new(), Vec::new()],
            to_aggregator: VecDeque::new(),
            delivered: None,
            to_edge: VecDeque::new(),
            connected: None,
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { lane, skip } => {
                let last = self.journals[lane].last().copied().unwrap_or(0);
                self.journals[lane].push(last + skip);
            }
            Step::Seal { lane, events } => self.seal(lane, events),
            Step::Send => self.to_aggregator.extend(self.sender.next_batch()),
            Step::Deliver => {
                self.delivered = self.to_aggregator.pop_front().or(self.delivered.take());
                self.deliver();
            }
            Step::DeliverAgain => self.deliver(),
            Step::Block if self.block.is_empty() => self.block = std::mem::take(&mut self.pending),
            Step::Block => {}
            Step::Insert => self.insert(),
            Step::DeliverAck => self.deliver_ack(),
            Step::Connect if self.connected.is_none() => self.connect(),
            Step::Connect => {}
            Step::Break => self.disconnect(),
            Step::RestartEdge => {
                self.disconnect();
                self.sender = new_sender(self.released);
            }
            Step::RestartAggregator { forget } => self.restart_aggregator(forget),
        }
    }

    fn seal(&mut self, lane: usize, events: usize) {
        let (number, journal) = JOURNALS[lane];
        let after = self
            .sender
            .pushed(number, journal)
            .expect("the lane was added");
        let run: Vec<u64> = self.journals[lane]
            .iter()
            .copied()
            .filter(|seq| *seq > after)
            .take(events)
            .collect();
        let (Some(&first), Some(&last), true) =
            (run.first(), run.last(), self.sender.has_capacity(run.len()))
        else {
            return;
        };
        let header = BatchHeader {
            lane: number,
            journal,
            format_version: 1,
            after,
            first,
            last,
            events: u32::try_from(run.len()).expect("in range"),
            raw_bytes: 1,
            crc: 0,
            sealed_at: 0,
        };
        header.validate().expect("valid header");
        self.sender
            .push(Batch {
                header,
                payload: vec![0; run.len()].into(),
            })
            .expect("next");
    }

    fn deliver(&mut self) {
        let (Some(batch), Some(welcome)) = (&self.delivered, &self.connected) else {
            return;
        };
        let header = batch.header;
        let same_journal = |lane: &&LaneState| lane.journal == header.journal;
        let welcomed = welcome
            .lanes
            .iter()
            .find(same_journal)
            .expect("in the Hello");
        // A batch of a correct edge is never rejected.
        let offered = self.lanes.offer(NODE, welcomed, &header);
        if let BatchDecision::Accept { skip_through } = offered.expect("no gap") {
            self.pending.push(AcceptedBatch {
                key: header.key(NODE),
                header,
                skip_through,
            });
        }
    }

    fn insert(&mut self) {
        for AcceptedBatch {
            key,
            header,
            skip_through,
        } in std::mem::take(&mut self.block)
        {
            let lane = JOURNALS
                .iter()
                .position(|&(n, j)| (n, j) == (key.lane, key.journal));
            let lane = lane.expect("known lane");
            let events = self.journals[lane]
                .iter()
                .filter(|&&seq| (header.first..=header.last).contains(&seq) && seq > skip_through);
            self.stored[lane].extend(events);
            self.lanes.take(key, header.last);
            let state = self.lanes.state(key).expect("known");
            self.to_edge.push_back(Ack {
                lane: key.lane,
                journal: key.journal,
                taken: state.taken,
            });
        }
    }

    fn deliver_ack(&mut self) {
        if let (Some(ack), Some(_)) = (self.to_edge.pop_front(), &self.connected) {
            let release = self.sender.ack(&ack).expect("valid acknowledgement");
            self.release(release);
        }
    }

    fn release(&mut self, releases: impl IntoIterator<Item = event_shipping::Release>) {
        for release in releases {
            self.released[usize::from(release.lane)] = release.through;
        }
    }

    fn connect(&mut self) {
        let hello = self.sender.hello(NODE, "test");
        let lanes = hello
            .lanes
            .iter()
            .map(|lane| self.lanes.hello(NODE, lane).0)
            .collect();
        let welcome = Welcome {
            lanes,
            ..Welcome::default()
        };
        assert_eq!(
            self.sender.disputes(&welcome, |_, _| ALL_SEQUENCES),
            Ok(Vec::new())
        );
        let releases = self.sender.welcome(&welcome).expect("valid welcome");
        self.connected = Some(welcome);
        self.release(releases);
    }

    fn disconnect(&mut self) {
        self.connected = None;
        self.to_aggregator.clear();
        self.delivered = None;
        self.to_edge.clear();
        self.sender.disconnected();
    }

    /// Loses the memory and keeps block file and checkpoint. With `forget` the checkpoint is lost, too,
    /// as on a new machine; this is only valid when every event is acknowledged.
    fn restart_aggregator(&mut self, forget: bool) {
        self.disconnect();
        self.pending.clear();
        let checkpoint: Vec<_> = self.lanes.checkpoints().collect();
        self.lanes = LaneTable::default();
        let acknowledged = checkpoint
            .iter()
            .all(|lane| self.released[usize::from(lane.key.lane)] == lane.taken);
        if !(forget && acknowledged && self.block.is_empty()) {
            for lane in checkpoint {
                self.lanes.restore(&lane);
            }
        }
        for batch in &self.block {
            self.lanes.recover(batch.key, batch.header.last);
        }
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.apply(&Step::Connect);
            for lane in 0..2 {
                self.apply(&Step::Seal { lane, events: 5 });
            }
            for step in [
                Step::Send,
                Step::Deliver,
                Step::Block,
                Step::Insert,
                Step::DeliverAck,
            ] {
                self.apply(&step);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_event_is_stored_once_and_in_order(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            for (stored, journal) in world.stored.iter().zip(&world.journals) {
                prop_assert!(journal.starts_with(stored), "{stored:?} of {journal:?}");
            }
            for (lane, released) in world.released.iter().enumerate() {
                prop_assert!(world.stored[lane].last().copied().unwrap_or(0) >= *released);
            }
        }
        world.settle();
        prop_assert_eq!(&world.stored, &world.journals);
        prop_assert_eq!(world.sender.in_flight(), Default::default());
    }
}

fn header(after: u64, first: u64, last: u64) -> BatchHeader {
    BatchHeader {
        lane: 0,
        journal: 11,
        format_version: 1,
        after,
        first,
        last,
        events: 1,
        raw_bytes: 1,
        crc: 0,
        sealed_at: 0,
    }
}

fn lane_hello(journal: u64, acknowledged: u64) -> LaneHello {
    LaneHello {
        lane: 0,
        journal,
        acknowledged,
        released: acknowledged,
    }
}

#[test]
fn gap_is_rejected_and_changes_nothing() {
    let mut lanes = LaneTable::default();
    let (welcomed, claim) = lanes.hello(NODE, &lane_hello(11, 4));
    assert_eq!(claim, ClaimResult::Accepted);
    let mut offer = |header| lanes.offer(NODE, &welcomed, &header);
    assert!(offer(header(5, 6, 7)).is_err());
    assert_eq!(
        offer(header(3, 4, 9)),
        Ok(BatchDecision::Accept { skip_through: 4 })
    );
    assert_eq!(
        offer(header(3, 4, 9)),
        Ok(BatchDecision::Duplicate { taken: 4 })
    );
}

#[test]
fn claim_of_unknown_edge_changes_no_lane() {
    let mut lanes = LaneTable::default();
    let false_claim = lane_hello(11, 1 << 61);
    // First for an unknown lane, then for a known one.
    lanes.hello(NODE, &false_claim);
    assert!(lanes.is_empty());
    let (welcomed, _) = lanes.hello(NODE, &lane_hello(11, 0));
    assert_eq!((welcomed.received, welcomed.taken), (0, 0));
    let offered = lanes.offer(NODE, &welcomed, &header(0, 1, 3));
    assert_eq!(offered, Ok(BatchDecision::Accept { skip_through: 0 }));
    let (response, claim) = lanes.hello(NODE, &false_claim);
    assert_eq!(claim, ClaimResult::Ignored);
    assert_eq!((response.received, response.taken), (3, 0));
    let offered = lanes.offer(NODE, &welcomed, &header(3, 4, 5));
    assert_eq!(offered, Ok(BatchDecision::Accept { skip_through: 3 }));
}

#[test]
fn lanes_are_bounded_per_node_and_in_total() {
    let bounds = LaneBounds {
        lanes: 3,
        lanes_per_node: 2,
        forget_after_days: 1,
    };
    let mut lanes = LaneTable::new(bounds, 0);
    let mut accept = |node, journal| {
        let (welcomed, _) = lanes.hello(node, &lane_hello(journal, 0));
        let header = BatchHeader {
            journal,
            ..header(0, 1, 1)
        };
        lanes.offer(node, &welcomed, &header).map(drop)
    };
    assert!(accept(1, 1).is_ok() && accept(1, 2).is_ok());
    assert_eq!(accept(1, 3), Err(TooManyLanes { node: 1 }.into()));
    assert!(accept(2, 1).is_ok());
    assert_eq!(accept(3, 1), Err(TooManyLanes { node: 3 }.into()));
    assert_eq!(lanes.check_capacity(1, &[lane_hello(1, 0)]), Ok(()));
    assert!(lanes.check_capacity(1, &[lane_hello(9, 0)]).is_err());
    // A complete lane of the same node is removed.
    let key = |journal| LaneKey {
        node: 1,
        lane: 0,
        journal,
    };
    lanes.take(key(2), 1);
    assert_eq!(lanes.check_capacity(1, &[lane_hello(9, 0)]), Ok(()));
    let (welcomed, _) = lanes.hello(1, &lane_hello(9, 0));
    let header = BatchHeader {
        journal: 9,
        ..header(0, 1, 1)
    };
    assert!(lanes.offer(1, &welcomed, &header).is_ok());
    assert!(lanes.state(key(1)).is_some() && lanes.state(key(2)).is_none());
}

#[test]
fn complete_idle_lanes_expire_by_observed_days() {
    let bounds = LaneBounds {
        forget_after_days: 2,
        ..LaneBounds::default()
    };
    let mut lanes = LaneTable::new(bounds, 0);
    let key = |journal| LaneKey {
        node: NODE,
        lane: 0,
        journal,
    };
    for journal in 1..=3 {
        lanes.take(key(journal), 5);
    }
    lanes.recover(key(3), 6);
    assert_eq!(lanes.observe_day(20_000), 0);
    // A clock step of years ages lanes by one day, and each day counts once.
    assert_eq!(lanes.observe_day(30_000), 0);
    assert_eq!(lanes.observe_day(30_000), 0);
    // The checkpoint keeps the count over a restart.
    let mut after = LaneTable::new(bounds, lanes.day());
    lanes.checkpoints().for_each(|lane| after.restore(&lane));
    after.recover(key(3), 6);
    assert_eq!(after.observe_day(30_001), 0);
    after.hello(NODE, &lane_hello(2, 0));
    assert_eq!(after.observe_day(30_002), 1);
    let known = |journal| after.state(key(journal)).is_some();
    assert!(!known(1) && known(2) && known(3), "incomplete or in use");
}

#[test]
fn disputes_distinguish_other_writer_and_restored_aggregator() {
    let sender = new_sender([50, 0]);
    let kind = |received| {
        let state = |lane, journal, received| LaneState {
            lane,
            journal,
            received,
            taken: received,
        };
        let lanes = vec![state(0, 11, received), state(1, 12, 0)];
        let disputes = sender.disputes(
            &Welcome {
                lanes,
                ..Welcome::default()
            },
            |_, _| HeldSequences {
                highest_assigned: 100,
                last: 80,
            },
        );
        disputes.expect("valid").first().map(|dispute| dispute.kind)
    };
    assert_eq!(kind(49), Some(DisputeKind::AggregatorRestored));
    assert_eq!(kind(50), None);
    assert_eq!(kind(80), None);
    assert_eq!(kind(81), Some(DisputeKind::EventsMissing));
    assert_eq!(kind(100), Some(DisputeKind::EventsMissing));
    assert_eq!(kind(101), Some(DisputeKind::OtherWriter));
}

#[test]
fn ack_of_unsent_events_is_rejected() {
    let mut sender = new_sender([0; 2]);
    let state = |lane, journal, received| LaneState {
        lane,
        journal,
        received,
        taken: 0,
    };
    sender
        .welcome(&Welcome {
            lanes: vec![state(0, 11, 0), state(1, 12, 0)],
            ..Welcome::default()
        })
        .expect("valid");
    sender
        .push(Batch {
            header: header(0, 1, 3),
            payload: vec![0].into(),
        })
        .expect("next");
    assert_eq!(
        sender.ack(&Ack {
            lane: 0,
            journal: 11,
            taken: 3
        }),
        Err(ProtocolViolation::NeverSent {
            lane: 0,
            taken: 3,
            sent: 0
        })
    );
    assert!(sender.next_batch().is_some());
    let release = sender
        .ack(&Ack {
            lane: 0,
            journal: 11,
            taken: 3,
        })
        .expect("sent now");
    assert_eq!(
        release.map(|release| (release.through, release.skip)),
        Some((3, false))
    );
}

#[test]
fn welcome_without_a_lane_is_rejected() {
    let mut sender = new_sender([0; 2]);
    let response = sender.welcome(&Welcome {
        lanes: Vec::new(),
        ..Welcome::default()
    });
    assert_eq!(response, Err(ProtocolViolation::MissingLane(0)));
    assert!(sender.next_batch().is_none());
}

#[test]
fn batches_with_a_gap_are_rejected() {
    let mut sender = new_sender([4, 0]);
    let batch = |header| Batch {
        header,
        payload: vec![0].into(),
    };
    assert!(sender.push(batch(header(5, 6, 7))).is_err());
    assert!(sender.push(batch(header(0, 1, 4))).is_err());
    assert!(sender.push(batch(header(4, 9, 9))).is_ok());
}
