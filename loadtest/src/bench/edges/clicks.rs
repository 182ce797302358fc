//! Generates the clicks of a simulated edge as journal frames, with visitors, pages and links as varied as in the
//! other benchmarks.

use crate::links::SAMPLES;
use crate::traffic::{self, Random};
use event_journal::Frame;
use std::net::Ipv4Addr;
use tracking_events::{
    ClickId, ClickIdParts, CostMicros, Device, Event, Flags, Geo, KeyId, KeyRing, LaneId, Link,
    LinkId, MAX_EVENT_BYTES, MacKey, Micros, NodeId, Seq, UserAgent, Visit, VisitorId, encode,
};

const VISITORS: u64 = 100_000;
const COUNTRIES: [&[u8; 2]; 24] = [
    b"AR", b"AT", b"AU", b"BE", b"BR", b"CA", b"CH", b"CO", b"CZ", b"DE", b"ES", b"FR", b"GB",
    b"GR", b"IT", b"JP", b"MX", b"NL", b"PL", b"PT", b"RO", b"SE", b"US", b"ZA",
];
const DEVICES: [Device; 3] = [Device::Phone, Device::Desktop, Device::Tablet];

/// Generates clicks with ids that are unique over all edges.
pub(super) struct Clicks {
    node: NodeId,
    lane: LaneId,
    keys: KeyRing,
    agents: Vec<&'static str>,
    random: Random,
    event: Vec<u8>,
}

impl Clicks {
    /// Clicks of a node's lane.
    pub(super) fn new(node: NodeId, lane: LaneId) -> anyhow::Result<Self> {
        let key = KeyId::new(0)?;
        Ok(Self {
            node,
            lane,
            keys: KeyRing::new(key, [(key, MacKey::new([7; 32]))])?,
            agents: traffic::agents().collect(),
            random: Random::new(u64::from(node.0)),
            event: vec![0; MAX_EVENT_BYTES],
        })
    }

    /// Appends the frame of the click `seq` to `frames`.
    pub(super) fn write(
        &mut self,
        seq: u64,
        time: Micros,
        frames: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let random = &mut self.random;
        let (creator, page, story) = (random.below(50), random.below(40), random.below(1_000));
        let referrer = format!("https://creator{creator}.example/page/{page}");
        let subs = [format!("creator{creator}"), format!("story-{story}")];
        let repeated = [Flags::default(), Flags::REPEATED][random.below(2) as usize];
        let visitor = Visitor::new(random.below(VISITORS));
        let link = link(random);
        let visit = Visit {
            id: self.id(seq, time, link.id),
            time,
            link,
            visitor: visitor.id,
            flags: repeated,
            status: 302,
            address: visitor.address.to_ipv6_mapped().octets(),
            geo: visitor.geo,
            agent: UserAgent {
                device: visitor.device,
                os: "Android",
                browser: "Chrome",
                raw: self.agents[visitor.agent],
            },
            language: "en-us",
            host: "go.fanz.example",
            referrer: &referrer,
            source: "profile",
            external_id: "",
            cost: CostMicros(0),
            subs: std::array::from_fn(|index| subs.get(index).map_or("", String::as_str)),
        };
        let len = encode(&Event::Click(visit), &mut self.event)?;
        let payload = &self.event[..len];
        Frame { seq, payload }.write(frames);
        Ok(())
    }

    fn id(&self, seq: u64, time: Micros, link: LinkId) -> ClickId {
        self.keys.sign(ClickIdParts {
            time,
            node: self.node,
            lane: self.lane,
            seq: Seq(seq),
            link,
        })
    }
}

fn link(random: &mut Random) -> Link<'static> {
    let number = random.below(SAMPLES.len() as u64) as u32;
    let (offer, campaign, affiliate, slug) = SAMPLES[number as usize];
    Link {
        id: LinkId(number + 1),
        slug,
        offer,
        campaign,
        affiliate,
    }
}

/// A visitor's properties, which depend only on its number.
struct Visitor {
    id: VisitorId,
    address: Ipv4Addr,
    geo: Geo<'static>,
    device: Device,
    agent: usize,
}

impl Visitor {
    fn new(number: u64) -> Self {
        let mut visitor_random = Random::new(number ^ 0x5eed);
        let id = VisitorId(visitor_random.below(u64::MAX));
        let mut octet = || 100 + visitor_random.below(124) as u8;
        Self {
            id,
            address: Ipv4Addr::new(octet(), octet(), octet(), 0),
            geo: Geo {
                country: *COUNTRIES[visitor_random.below(COUNTRIES.len() as u64) as usize],
                ..Geo::default()
            },
            device: DEVICES[visitor_random.below(DEVICES.len() as u64) as usize],
            agent: traffic::agent_of(visitor_random.below(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tracking_events::{FORMAT_VERSION, decode};

    #[test]
    fn clicks_of_all_edges_have_ids_of_their_own() {
        let mut ids = BTreeSet::new();
        for node in 1..=3 {
            let mut clicks = Clicks::new(NodeId(node), LaneId(0)).expect("a key");
            let mut frames = Vec::new();
            for seq in 1..=100 {
                let written = clicks.write(seq, Micros(1_800_000_000_000_000), &mut frames);
                written.expect("it fits");
            }
            for (frame, seq) in event_journal::frames(&frames).zip(1..) {
                let frame = frame.expect("whole");
                assert_eq!(frame.seq, seq);
                match decode(FORMAT_VERSION, frame.payload).expect("an event") {
                    Event::Click(visit) => assert!(ids.insert(visit.id)),
                    other => panic!("not a click: {other:?}"),
                }
            }
        }
        assert_eq!(ids.len(), 300);
    }
}
