//! Random histories of one publisher and three edges: versions are published, connections break within updates, edges
//! and publishers restart, disks fail and are lost. An edge always uses a published version as a whole.
#![allow(missing_docs)]

use domain::{Micros, NodeId};
use edge_config::{
    Change, ConfigVersion, Digest, HeldVersion, KIND_LINK, Outcome, Publisher, PublisherMessage,
    ResourceKey, Response, Subscriber, Target, TargetError, UpdatePart, UpdateRefusal,
};
use event_shipping::Message as _;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

type Resources = BTreeMap<ResourceKey, Vec<u8>>;

const EDGES: u16 = 3;
const CANARY: NodeId = NodeId(0);
/// Content that no edge can use.
const UNUSABLE: &[u8] = b"unusable";

/// What survives the crash of an edge.
#[derive(Debug, Clone, Default)]
struct EdgeDisk {
    held: HeldVersion,
    resources: Resources,
}

/// A target whose commit may fail.
#[derive(Debug, Default)]
struct MemoryTarget {
    disk: Rc<RefCell<EdgeDisk>>,
    staged: Vec<Change>,
    is_disk_full: Rc<Cell<bool>>,
}

impl Target for MemoryTarget {
    fn stage(&mut self, mut changes: Vec<Change>) -> Result<(), TargetError> {
        for change in &changes {
            if change.content.as_deref() == Some(UNUSABLE) {
                let (key, detail) = (change.key, "unusable".into());
                return Err(TargetError::Resource { key, detail });
            }
        }
        self.staged.append(&mut changes);
        Ok(())
    }

    fn commit(&mut self, held: HeldVersion) -> Result<(), TargetError> {
        if self.is_disk_full.take() {
            return Err(TargetError::Storage("the disk is full".into()));
        }
        let mut disk = self.disk.borrow_mut();
        for change in self.staged.drain(..) {
            match change.content {
                Some(content) => disk.resources.insert(change.key, content),
                None => disk.resources.remove(&change.key),
            };
        }
        disk.held = held;
        Ok(())
    }

    fn abort(&mut self) {
        self.staged.clear();
    }
}

/// An edge with its connection.
struct Edge {
    node: NodeId,
    disk: Rc<RefCell<EdgeDisk>>,
    is_disk_full: Rc<Cell<bool>>,
    subscriber: Subscriber<MemoryTarget>,
    in_flight: Option<(edge_config::Update, VecDeque<UpdatePart>)>,
    nonce: u64,
}

impl Edge {
    fn start(node: NodeId, disk: EdgeDisk) -> Self {
        let stored: Vec<_> = disk.resources.iter().map(digest).collect();
        let held = disk.held;
        let disk = Rc::new(RefCell::new(disk));
        let is_disk_full = Rc::default();
        let target = MemoryTarget {
            disk: Rc::clone(&disk),
            staged: Vec::new(),
            is_disk_full: Rc::clone(&is_disk_full),
        };
        let subscriber =
            Subscriber::new(target, held, stored).expect("the stored checksum is right");
        Self {
            node,
            disk,
            is_disk_full,
            subscriber,
            in_flight: None,
            nonce: 0,
        }
    }

    fn restart(&mut self, disk: EdgeDisk) {
        *self = Self::start(self.node, disk);
    }

    /// Sends the next part to the edge, of a new update if none is in flight. Returns whether there was one.
    fn step(&mut self, publisher: &mut Publisher) -> bool {
        if self.in_flight.is_none() {
            let Some(update) = publisher.update_for(self.node) else {
                return false;
            };
            self.nonce += 1;
            let parts = update.parts(self.nonce).collect::<Result<_, _>>();
            let parts = parts.expect("no resource is too long");
            self.in_flight = Some((update, parts));
        }
        let Some((update, parts)) = &mut self.in_flight else {
            return false;
        };
        let part = parts.pop_front().expect("the last part has a response");
        let response = self.subscriber.receive(&over_the_wire(part));
        if let Some(Response { nonce, outcome }) = response {
            assert_eq!(nonce, self.nonce);
            publisher.responded(self.node, update, &outcome, Micros(1));
            self.in_flight = None;
        }
        true
    }

    fn reconnect(&mut self, publisher: &mut Publisher) {
        publisher.unsubscribed(self.node);
        self.in_flight = None;
        self.subscriber.disconnected();
        publisher.subscribed(self.node, self.subscriber.held());
    }
}

fn digest((key, content): (&ResourceKey, &Vec<u8>)) -> (ResourceKey, Digest) {
    (*key, Digest::of(*key, content))
}

fn over_the_wire(part: UpdatePart) -> UpdatePart {
    let frame = PublisherMessage::Part(part).to_frame().expect("fits");
    let PublisherMessage::Part(part) = PublisherMessage::from_body(&frame[4..]).expect("valid");
    part
}

/// Some resources are long, so that some updates have several parts.
const fn content_bytes(byte: u8) -> usize {
    if byte < 16 { 200_000 } else { 20 }
}

#[derive(Debug, Clone)]
enum Op {
    Publish(Vec<(u32, Option<u8>)>),
    /// A version with a resource that no edge can use.
    PublishUnusable(u32),
    Step(u16),
    Reconnect(u16),
    RestartEdge(u16),
    LoseDisk(u16),
    FillDisk(u16),
    RestartPublisher,
    SetCanary(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let changes = prop::collection::vec((0..40_u32, any::<Option<u8>>()), 0..6);
    prop_oneof![
        6 => changes.prop_map(Op::Publish),
        1 => (0..40_u32).prop_map(Op::PublishUnusable),
        20 => (0..EDGES).prop_map(Op::Step),
        3 => (0..EDGES).prop_map(Op::Reconnect),
        2 => (0..EDGES).prop_map(Op::RestartEdge),
        1 => (0..EDGES).prop_map(Op::LoseDisk),
        1 => (0..EDGES).prop_map(Op::FillDisk),
        1 => Just(Op::RestartPublisher),
        1 => any::<bool>().prop_map(Op::SetCanary),
    ]
}

struct World {
    publisher: Publisher,
    edges: Vec<Edge>,
    /// Every published version.
    history: BTreeMap<u64, Resources>,
    /// The versions that edges other than the canary may hold: those that the canary applied, and those that were
    /// published without one.
    released: BTreeSet<u64>,
    has_canary: bool,
}

impl World {
    fn new() -> Self {
        let mut publisher = Publisher::new(ConfigVersion::default());
        let edges = (0..EDGES).map(|node| Edge::start(NodeId(node), EdgeDisk::default()));
        let mut edges: Vec<_> = edges.collect();
        for edge in &mut edges {
            edge.reconnect(&mut publisher);
        }
        Self {
            publisher,
            edges,
            history: BTreeMap::from([(0, Resources::new())]),
            released: BTreeSet::new(),
            has_canary: false,
        }
    }

    fn newest(&self) -> (u64, &Resources) {
        let last = self.history.last_key_value();
        last.map(|(version, it)| (*version, it))
            .expect("never empty")
    }

    fn publish(&mut self, changes: Vec<Change>) {
        let (version, resources) = self.newest();
        let (version, mut resources) = (version + 1, resources.clone());
        for change in &changes {
            match &change.content {
                Some(content) => resources.insert(change.key, content.clone()),
                None => resources.remove(&change.key),
            };
        }
        self.history.insert(version, resources);
        self.publisher.publish(version, changes);
    }

    fn run(&mut self, op: Op) {
        let Self {
            publisher, edges, ..
        } = self;
        let edge = |number: u16| number as usize;
        match op {
            Op::Publish(changes) => {
                let changes = changes.into_iter().map(|(id, content)| Change {
                    key: ResourceKey::link(id),
                    content: content.map(|byte| vec![byte; content_bytes(byte)]),
                });
                self.publish(changes.collect());
            }
            Op::PublishUnusable(id) => {
                let (key, content) = (ResourceKey::link(id), Some(UNUSABLE.to_vec()));
                self.publish(vec![Change { key, content }]);
            }
            Op::Step(node) => {
                edges[edge(node)].step(publisher);
            }
            Op::Reconnect(node) => edges[edge(node)].reconnect(publisher),
            Op::RestartEdge(node) => {
                let disk = edges[edge(node)].disk.borrow().clone();
                edges[edge(node)].restart(disk);
                edges[edge(node)].reconnect(publisher);
            }
            Op::LoseDisk(node) => {
                edges[edge(node)].restart(EdgeDisk::default());
                edges[edge(node)].reconnect(publisher);
            }
            Op::FillDisk(node) => edges[edge(node)].is_disk_full.set(true),
            Op::RestartPublisher => {
                let (version, resources) = self.newest();
                let restarted = ConfigVersion::new(version, resources.clone());
                self.publisher = Publisher::new(restarted);
                self.publisher.set_canary(self.has_canary.then_some(CANARY));
                for edge in &mut self.edges {
                    edge.reconnect(&mut self.publisher);
                }
            }
            Op::SetCanary(is_set) => {
                publisher.set_canary(is_set.then_some(CANARY));
                self.has_canary = is_set;
            }
        }
    }

    fn check(&mut self) {
        if !self.has_canary {
            self.released.insert(self.newest().0);
        }
        self.released
            .insert(self.edges[0].subscriber.held().version);
        for edge in &self.edges {
            let disk = edge.disk.borrow();
            assert_eq!(edge.subscriber.held(), disk.held);
            assert_eq!(
                self.history.get(&disk.held.version),
                Some(&disk.resources),
                "edge {} holds no published version",
                edge.node
            );
            assert!(
                self.released.contains(&disk.held.version),
                "edge {} got a version before the canary",
                edge.node
            );
        }
    }

    /// Delivers everything. Corrects what no edge can use first.
    fn settle(&mut self) {
        let (_, newest) = self.newest();
        let unusable = newest.iter().filter(|(_, content)| *content == UNUSABLE);
        let corrected = unusable.map(|(key, _)| Change {
            key: *key,
            content: None,
        });
        let corrected = corrected.collect();
        self.publish(corrected);
        for number in 0..self.edges.len() {
            self.edges[number].is_disk_full.set(false);
            self.edges[number].reconnect(&mut self.publisher);
        }
        loop {
            let mut steps = 0;
            for edge in &mut self.edges {
                steps += u32::from(edge.step(&mut self.publisher));
            }
            self.check();
            if steps == 0 {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn edges_hold_whole_versions_and_converge(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        world.settle();
        let (newest, _) = world.newest();
        for edge in &world.edges {
            prop_assert_eq!(edge.subscriber.held().version, newest);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = edge_config::SubscriberMessage::from_body(&bytes);
        let _ = edge_config::LinkRecord::decode(&bytes);
        if let Ok(PublisherMessage::Part(part)) = PublisherMessage::from_body(&bytes) {
            let mut edge = Edge::start(NodeId(1), EdgeDisk::default());
            edge.subscriber.receive(&part);
        }
    }
}

#[test]
fn changes_between_versions_lead_from_one_to_the_other() {
    let version = |number, links: &[(u32, &[u8])]| {
        let links = links.iter();
        let links = links.map(|(id, content)| (ResourceKey::link(*id), content.to_vec()));
        ConfigVersion::new(number, links)
    };
    let before = version(1, &[(1, b"same"), (2, b"before"), (3, b"removed")]);
    let after = version(2, &[(1, b"same"), (2, b"after"), (4, b"added")]);
    let mut changes = before.changes_to(&after);
    changes.sort_by_key(|change| change.key);
    let removed = Change {
        key: ResourceKey::link(3),
        content: None,
    };
    assert_eq!(changes, [put(2, b"after"), removed, put(4, b"added")]);
    let mut publisher = Publisher::new(before);
    publisher.publish(2, changes);
    assert_eq!(publisher.newest().held(), after.held());
}

fn put(id: u32, content: &[u8]) -> Change {
    Change {
        key: ResourceKey::link(id),
        content: Some(content.to_vec()),
    }
}

#[test]
fn delta_contains_only_what_changed() {
    let links = (0..1000).map(|id| (ResourceKey::link(id), vec![7; 100]));
    let mut publisher = Publisher::new(ConfigVersion::new(1, links));
    let mut edge = Edge::start(NodeId(1), EdgeDisk::default());
    edge.reconnect(&mut publisher);
    let snapshot = publisher.update_for(edge.node).expect("needed");
    assert!(snapshot.is_snapshot());
    while edge.step(&mut publisher) {}
    publisher.publish(2, vec![put(3, b"new")]);
    publisher.publish(3, vec![put(4, b"new"), put(5, &[7; 100])]);
    let delta = publisher.update_for(edge.node).expect("needed");
    let frames = delta.parts(1).map(|part| {
        let part = PublisherMessage::Part(part.expect("encoded"));
        part.to_frame().expect("fits").len()
    });
    assert!(!delta.is_snapshot() && frames.sum::<usize>() < 150);
    while edge.step(&mut publisher) {}
    assert_eq!(edge.subscriber.held(), publisher.newest().held());
}

#[test]
fn refused_version_is_not_repeated_until_the_next_one() {
    let mut publisher = Publisher::new(ConfigVersion::new(1, []));
    let mut edge = Edge::start(NodeId(1), EdgeDisk::default());
    edge.reconnect(&mut publisher);
    publisher.publish(2, vec![put(1, UNUSABLE), put(2, b"usable")]);
    while edge.step(&mut publisher) {}
    let status = &publisher.edges()[&edge.node];
    let refused = status.refused.as_ref().expect("refused");
    assert_eq!(
        (refused.version, refused.code),
        (2, UpdateRefusal::Resource.number())
    );
    assert_eq!(refused.detail, "link 1: unusable");
    assert_eq!(edge.disk.borrow().resources, Resources::new());
    publisher.publish(3, vec![put(1, b"corrected")]);
    while edge.step(&mut publisher) {}
    assert_eq!(edge.subscriber.held().version, 3);
    assert_eq!(edge.disk.borrow().resources.len(), 2);
}

#[test]
fn refusal_by_the_canary_stops_a_version() {
    let mut publisher = Publisher::new(ConfigVersion::new(1, []));
    publisher.set_canary(Some(CANARY));
    let mut edges = [CANARY, NodeId(1)].map(|node| Edge::start(node, EdgeDisk::default()));
    let mut deliver = |publisher: &mut Publisher| {
        for edge in &mut edges {
            edge.reconnect(publisher);
        }
        while edges.iter_mut().any(|edge| edge.step(publisher)) {}
        edges.each_ref().map(|edge| edge.subscriber.held().version)
    };
    assert_eq!(deliver(&mut publisher), [1, 1]);
    publisher.publish(2, vec![put(1, UNUSABLE)]);
    assert_eq!(deliver(&mut publisher), [1, 1]);
    publisher.publish(3, vec![put(1, b"corrected")]);
    assert_eq!(deliver(&mut publisher), [3, 3]);
}

#[test]
fn restarted_publisher_waits_for_the_canary() {
    let links = [(ResourceKey::link(1), b"one".to_vec())];
    let mut publisher = Publisher::new(ConfigVersion::new(7, links));
    publisher.set_canary(Some(CANARY));
    let mut edges = [CANARY, NodeId(1)].map(|node| Edge::start(node, EdgeDisk::default()));
    edges[1].reconnect(&mut publisher);
    assert!(!edges[1].step(&mut publisher) && publisher.released().is_none());
    edges[0].reconnect(&mut publisher);
    while edges.iter_mut().any(|edge| edge.step(&mut publisher)) {}
    assert_eq!(edges[1].subscriber.held().version, 7);
}

#[test]
fn higher_version_is_replaced_once_the_source_was_read_again() {
    let version = |version, content: &[u8]| {
        ConfigVersion::new(version, [(ResourceKey::link(1), content.to_vec())])
    };
    let mut publisher = Publisher::new(version(5, b"five"));
    let mut edge = Edge::start(NodeId(1), EdgeDisk::default());
    edge.reconnect(&mut publisher);
    while edge.step(&mut publisher) {}
    // Another publisher may be ahead of this one, which lags behind its source.
    let mut lagging = Publisher::new(version(3, b"three"));
    edge.reconnect(&mut lagging);
    assert!(lagging.update_for(edge.node).is_none());
    assert!(lagging.confirm_newest() && !lagging.confirm_newest());
    while edge.step(&mut lagging) {}
    assert_eq!(edge.subscriber.held(), version(3, b"three").held());
    // The source was restored, and has another version of the same number.
    lagging.restart_from(version(3, b"other"));
    while edge.step(&mut lagging) {}
    assert_eq!(edge.subscriber.held(), version(3, b"other").held());
}

#[test]
fn damaged_update_is_refused_then_sent_as_a_snapshot() {
    let links = [(ResourceKey::link(1), b"one".to_vec())];
    let mut publisher = Publisher::new(ConfigVersion::new(1, links));
    let mut edge = Edge::start(NodeId(1), EdgeDisk::default());
    edge.reconnect(&mut publisher);
    while edge.step(&mut publisher) {}
    publisher.publish(2, vec![put(2, b"two")]);
    let delta = publisher.update_for(edge.node).expect("needed");
    let part = delta.parts(9).next().expect("one part").expect("encoded");
    let wrong = UpdatePart {
        after: HeldVersion {
            version: 2,
            checksum: HeldVersion::default().checksum,
        },
        ..part.clone()
    };
    let other_base = UpdatePart {
        base: edge_config::Base::Version(7),
        ..part.clone()
    };
    let second_part = UpdatePart { number: 1, ..part };
    for (part, reason) in [
        (wrong, UpdateRefusal::Checksum),
        (other_base, UpdateRefusal::OtherBase),
        (second_part, UpdateRefusal::Malformed),
    ] {
        let response = edge.subscriber.receive(&part).expect("a response");
        let Outcome::Refused { code, .. } = &response.outcome else {
            panic!("applied {part:?}");
        };
        assert_eq!(*code, reason.number());
        assert_eq!(edge.subscriber.held().version, 1);
        edge.reconnect(&mut publisher);
        publisher.responded(edge.node, &delta, &response.outcome, Micros(1));
        let next = publisher.update_for(edge.node);
        let is_repaired = next.is_some_and(|update| update.is_snapshot());
        assert_eq!(
            is_repaired,
            reason != UpdateRefusal::Malformed,
            "{reason:?}"
        );
    }
}

#[test]
fn edge_with_a_wrong_stored_checksum_holds_nothing() {
    let key = ResourceKey {
        kind: KIND_LINK,
        id: 1,
    };
    let held = ConfigVersion::new(1, [(key, b"one".to_vec())]).held();
    let start = |content: &[u8]| {
        let stored = [(key, Digest::of(key, content))];
        Subscriber::new(MemoryTarget::default(), held, stored).is_ok()
    };
    assert!(start(b"one") && !start(b"two"));
}
