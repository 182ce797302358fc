//! Accepted events, and the check that each is in the table once and unaltered.

use crate::rows::Row;
use domain::{CostMicros, LaneId, LinkId, Micros, NodeId, Seq, VisitorId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tracking_events::{
    ClickIdParts, Event, Flags, Geo, KeyId, KeyRing, Link, MacKey, UserAgent, Visit, encode,
};

/// Expected values of a row, by column.
type Expected = BTreeMap<&'static str, Vec<u8>>;

#[derive(Debug, Clone)]
struct AcceptedEvent {
    expected: Expected,
    durable: bool,
    /// A power loss may have removed it.
    may_be_lost: bool,
}

/// All events that edges accepted. An event is identified by its edge and the edge's counter.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    keys: KeyRing,
    edges: Arc<Mutex<BTreeMap<u16, Vec<AcceptedEvent>>>>,
}

/// An event before the journal accepts it.
#[derive(Debug)]
pub(crate) struct ProposedEvent {
    pub(crate) bytes: Vec<u8>,
    node: u16,
    expected: Expected,
}

impl Events {
    pub(crate) fn new() -> Self {
        let key = KeyId::new(0).expect("in range");
        let keys = KeyRing::new(key, [(key, MacKey::new([7; 32]))]);
        Self {
            keys: keys.expect("one key"),
            edges: Arc::default(),
        }
    }

    /// Creates the next event of an edge; `filler` bytes make it longer.
    pub(crate) fn propose(&self, node: u16, lane: u8, filler: usize) -> ProposedEvent {
        let number = self.count(node);
        let time = Micros(1_800_000_000_000_000 + number);
        let external_id = format!("{node}-{number}");
        let agent = format!("{external_id} {}", "x".repeat(filler));
        let link = Link {
            id: LinkId(1 + number as u32 % 3),
            slug: "slug",
            offer: "offer",
            campaign: "campaign",
            affiliate: "affiliate",
        };
        let id = self.keys.sign(ClickIdParts {
            time,
            node: NodeId(node),
            lane: LaneId(lane),
            seq: Seq(number),
            link: link.id,
        });
        let visit = Visit {
            id,
            time,
            link,
            visitor: VisitorId(number.wrapping_mul(0x9e37_79b9)),
            flags: Flags::default(),
            status: 302,
            address: [0; 16],
            geo: Geo::default(),
            agent: UserAgent {
                raw: &agent,
                ..UserAgent::default()
            },
            language: "",
            host: "go.example",
            referrer: "",
            source: "simulation",
            external_id: &external_id,
            cost: CostMicros(0),
            subs: [""; tracking_events::SUB_COUNT],
        };
        let expected = BTreeMap::from([
            ("id", id.to_text().as_bytes().to_vec()),
            ("time", time.0.to_le_bytes().to_vec()),
            ("visitor", visit.visitor.0.to_le_bytes().to_vec()),
            ("link_id", link.id.0.to_le_bytes().to_vec()),
            ("user_agent", agent.clone().into_bytes()),
            ("external_id", external_id.clone().into_bytes()),
            ("node", node.to_le_bytes().to_vec()),
            ("lane", vec![lane]),
        ]);
        let event = if number.is_multiple_of(3) {
            Event::Impression(visit)
        } else {
            Event::Click(visit)
        };
        let mut bytes = vec![0; tracking_events::MAX_EVENT_BYTES];
        let len = encode(&event, &mut bytes).expect("it fits");
        bytes.truncate(len);
        ProposedEvent {
            bytes,
            node,
            expected,
        }
    }

    pub(crate) fn accepted(&self, event: ProposedEvent) {
        let accepted = AcceptedEvent {
            expected: event.expected,
            durable: false,
            may_be_lost: false,
        };
        self.lock().entry(event.node).or_default().push(accepted);
    }

    /// Number of events that an edge has accepted.
    pub(crate) fn count(&self, node: u16) -> u64 {
        self.lock().get(&node).map_or(0, Vec::len) as u64
    }

    /// Marks the first `count` events of an edge as durable.
    pub(crate) fn synced(&self, node: u16, count: u64) {
        let mut edges = self.lock();
        let events = edges.get_mut(&node).into_iter().flatten();
        for event in events.take(count as usize) {
            event.durable |= !event.may_be_lost;
        }
    }

    /// An edge lost power: events that were not synced may be lost.
    pub(crate) fn power_failed(&self, node: u16) {
        for event in self.lock().get_mut(&node).into_iter().flatten() {
            event.may_be_lost |= !event.durable;
        }
    }

    pub(crate) fn all(&self) -> u64 {
        self.lock().values().map(|events| events.len() as u64).sum()
    }

    /// Whether all events that must be in the table are there.
    pub(crate) fn all_in(&self, rows: &BTreeMap<Vec<u8>, Vec<Row>>) -> bool {
        let is_required = |event: &&AcceptedEvent| !event.may_be_lost;
        let is_stored = |event: &AcceptedEvent| rows.contains_key(&event.expected["external_id"]);
        self.lock()
            .values()
            .flatten()
            .filter(is_required)
            .all(is_stored)
    }

    /// Asserts that each event is in the table once, unaltered, and that there are no other rows. An event that a
    /// power loss may have removed is there at most once.
    pub(crate) fn check(&self, rows: &BTreeMap<Vec<u8>, Vec<Row>>) {
        let mut known = 0;
        for event in self.lock().values().flatten() {
            let id = &event.expected["external_id"];
            let name = String::from_utf8_lossy(id);
            let found = rows.get(id);
            let copies = found.map_or(0, Vec::len);
            assert!(
                copies == 1 || (copies == 0 && event.may_be_lost),
                "event {name} is in the table {copies} times"
            );
            known += copies;
            for row in found.into_iter().flatten() {
                for (column, bytes) in &event.expected {
                    assert!(row[column] == *bytes, "{column} of event {name}");
                }
            }
        }
        let is_stored: usize = rows.values().map(Vec::len).sum();
        assert_eq!(is_stored, known, "rows without an accepted event");
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Vec<AcceptedEvent>>> {
        self.edges.lock().expect("no other task panicked")
    }
}
