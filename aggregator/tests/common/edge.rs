//! A simulated edge: a real journal, sender and QUIC connection, and faults drawn from a seed.

use super::{ClientConnection, client, until};
use domain::{CostMicros, LaneId, LinkId, Micros, NodeId, Seq, VisitorId};
use event_journal::{LaneReader, LaneWriter, Options};
use event_shipping::{
    AggregatorMessage, Batch, BatchSpan, EdgeMessage, InFlightLimits, Release, Sealer, Sender,
    SentLane,
};
use parking_lot::Mutex;
use quinn::ClientConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tracking_events::{
    ClickId, ClickIdParts, Device, Event, FORMAT_VERSION, Flags, Geo, KeyId, KeyRing, Link,
    MAX_EVENT_BYTES, MacKey, SUB_COUNT, UserAgent, Visit, encode,
};

/// The id of clicks, unless a test needs another: of 2025, node 3, link 7.
pub fn click_id() -> ClickId {
    static ID: LazyLock<ClickId> = LazyLock::new(|| click_id_at(Micros(1_750_000_000_123_000), 1));
    *ID
}

/// The id of another click.
pub fn click_id_at(time: Micros, seq: u64) -> ClickId {
    let key = KeyId::new(0).expect("below 32");
    let ring = KeyRing::new(key, [(key, MacKey::new([5; 32]))]).expect("key in ring");
    ring.sign(ClickIdParts {
        time,
        node: NodeId(3),
        lane: LaneId(0),
        seq: Seq(seq),
        link: LinkId(7),
    })
}

/// A click (or, every fourth, an impression) with a value in every field.
pub fn event(seq: u64, node: u16) -> Event<'static> {
    let visit = Visit {
        id: click_id(),
        time: Micros(Micros::now().0 - seq),
        link: Link {
            id: LinkId(7),
            slug: "spring",
            offer: "offer-1",
            campaign: "campaign-2",
            affiliate: "affiliate-3",
        },
        visitor: VisitorId(u64::MAX - seq),
        flags: if seq.is_multiple_of(2) {
            Flags::REPEATED
        } else {
            Flags(Flags::BOT.0 | Flags::HEAD.0)
        },
        status: 302,
        address: std::net::Ipv4Addr::new(192, 0, 2, (node % 200) as u8)
            .to_ipv6_mapped()
            .octets(),
        geo: Geo {
            country: *b"NL",
            region: "NH",
            asn: 64_500,
        },
        agent: UserAgent {
            device: Device::Phone,
            os: "Android",
            browser: "Firefox",
            raw: "Mozilla/5.0 (Android 15; Mobile)",
        },
        language: "en-us",
        host: "go.example",
        referrer: "https://example.com/päge",
        source: "newsletter",
        external_id: "ext",
        cost: CostMicros(-1_250_001),
        subs: std::array::from_fn(|index| ["s1", "", "s3"].get(index).copied().unwrap_or("")),
    };
    assert_eq!(SUB_COUNT, visit.subs.len());
    if seq.is_multiple_of(4) {
        Event::Impression(visit)
    } else {
        Event::Click(visit)
    }
}

pub struct Edge {
    node: u16,
    journal: u64,
    writers: Vec<LaneWriter>,
    readers: BTreeMap<u8, LaneReader>,
    sender: Sender,
    sealer: Sealer,
    dice: fastrand::Rng,
    _keeper: event_journal::SyncThread,
}

impl Edge {
    pub fn open(dir: &Path, node: u16, lanes: u8) -> Self {
        let options = Options {
            dir: dir.to_owned(),
            lanes,
            format_version: FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: 1 << 28,
            sync_interval: Duration::from_millis(50),
        };
        let opened = event_journal::open(&options).expect("journal");
        let readers = opened
            .readers
            .into_iter()
            .map(|reader| (reader.lane(), reader))
            .collect();
        let mut edge = Self {
            node,
            journal: opened.journal,
            writers: opened.writers,
            readers,
            sender: Sender::new(LIMITS),
            sealer: Sealer::new().expect("compressor"),
            dice: fastrand::Rng::with_seed(u64::from(node)),
            _keeper: opened.sync_thread,
        };
        edge.forget();
        edge
    }

    /// Appends this many visits to every lane.
    pub fn append(&mut self, events: u64) {
        self.append_each(events, |seq, node, _| event(seq, node));
    }

    /// Appends this many events to every lane; `make` gets sequence, node and lane.
    pub fn append_each(&mut self, events: u64, make: impl Fn(u64, u16, u8) -> Event<'static>) {
        for writer in &mut self.writers {
            for _ in 0..events {
                let seq = writer.next_seq();
                let event = make(seq, self.node, writer.lane());
                writer
                    .append(MAX_EVENT_BYTES, |room| encode(&event, room).ok())
                    .expect("accepted");
            }
        }
    }

    /// Whether all events are acknowledged.
    pub fn is_done(&self) -> bool {
        let end = |writer: &LaneWriter| writer.next_seq() - 1;
        self.writers
            .iter()
            .all(|writer| self.readers[&writer.lane()].released() >= end(writer))
    }

    /// Loses the state that a restart of the edge loses; later batches have other boundaries.
    fn forget(&mut self) {
        self.sender = Sender::new(LIMITS);
        for (lane, reader) in &mut self.readers {
            let released = reader.released();
            self.sender.add_lane(SentLane {
                lane: *lane,
                journal: self.journal,
                acknowledged: released,
                released,
            });
            reader.seek(released);
        }
    }

    /// Sends until all events are acknowledged, over as many connections as necessary.
    pub async fn ship_all(&mut self, address: SocketAddr, config: &ClientConfig) {
        until("shipped", async || {
            self.ship(address, config.clone()).await;
            self.is_done()
        })
        .await;
    }

    /// Sends over one connection until it breaks (often intentionally) or all events are acknowledged.
    pub async fn ship(&mut self, address: SocketAddr, config: ClientConfig) {
        // The number of steps on this connection, possibly too few for any progress.
        let mut steps = self.dice.u64(..60);
        if self.dice.u64(..4) == 0 {
            self.forget();
        }
        let talk = self.converse(address, config, &mut steps);
        let _ = tokio::time::timeout(Duration::from_secs(20), talk).await;
        self.sender.disconnected();
    }

    async fn converse(
        &mut self,
        address: SocketAddr,
        config: ClientConfig,
        steps: &mut u64,
    ) -> Option<()> {
        let mut talk = ClientConnection::open(address, config).await.ok()?;
        let hello = EdgeMessage::Hello(self.sender.hello(self.node, "simulated"));
        event_shipping::write_message(&mut talk.send, &hello)
            .await
            .ok()?;
        let AggregatorMessage::Welcome(welcome) = talk.receive().await.ok()?? else {
            return None;
        };
        for release in self.sender.welcome(&welcome).expect("valid welcome") {
            self.release(release);
        }
        let (mut send, mut receive) = (talk.send, talk.receive);
        let (received, mut responses) = tokio::sync::mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            while let Ok(Some(message)) =
                event_shipping::read_message::<AggregatorMessage>(&mut receive, 65_536).await
            {
                if received.send(message).is_err() {
                    return;
                }
            }
        });
        while !self.is_done() && *steps > 0 {
            *steps -= 1;
            self.fill();
            while let Some(batch) = self.sender.next_batch() {
                let again = (self.dice.u64(..5) == 0).then(|| batch.clone());
                for batch in std::iter::once(batch).chain(again) {
                    let message = EdgeMessage::Batch(batch);
                    event_shipping::write_message(&mut send, &message)
                        .await
                        .ok()?;
                }
            }
            let patience = Duration::from_millis(20);
            match tokio::time::timeout(patience, responses.recv()).await {
                Ok(Some(AggregatorMessage::Ack(ack))) => {
                    if let Some(release) = self.sender.ack(&ack).expect("valid ack") {
                        self.release(release);
                    }
                }
                Ok(Some(other)) => {
                    let stopping = event_shipping::RefuseCode::Stopping.number();
                    assert!(
                        matches!(&other, AggregatorMessage::Refuse(refuse) if refuse.code == stopping),
                        "{other:?}"
                    );
                    return None;
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        listening.abort();
        talk.connection.close(0_u8.into(), b"injected fault");
        Some(())
    }

    fn release(&mut self, release: Release) {
        let reader = self.readers.get_mut(&release.lane).expect("known lane");
        reader.release(release.through);
        if release.skip {
            reader.seek(release.through);
        }
    }

    /// Seals batches of various sizes while there is room.
    fn fill(&mut self) {
        let lanes: Vec<u8> = self.readers.keys().copied().collect();
        for lane in lanes {
            while self.sender.has_capacity(64 << 10) {
                let bytes = 2_000 + self.dice.u64(..60_000) as usize;
                let Some(batch) = self.seal(lane, bytes) else {
                    break;
                };
                self.sender.push(batch).expect("next batch of the lane");
            }
        }
    }

    fn seal(&mut self, lane: u8, bytes: usize) -> Option<Batch> {
        let mut frames = Vec::new();
        let reader = self.readers.get_mut(&lane)?;
        let run = reader.read(bytes, &mut frames).expect("readable")?;
        let span = BatchSpan {
            lane,
            journal: self.journal,
            format_version: run.format_version,
            after: run.after,
            first: run.first,
            last: run.last,
            events: run.events,
        };
        Some(
            self.sealer
                .seal(&span, &frames, Micros::now().0)
                .expect("seals"),
        )
    }
}

/// Edges, one per node, that append to their journals in rounds and ship to whichever address is current.
pub struct ShippingEdges {
    address: Arc<Mutex<SocketAddr>>,
    tasks: Vec<JoinHandle<()>>,
}

impl ShippingEdges {
    /// Each edge appends in `rounds` rounds, ships over one connection after each, and then until all is acknowledged.
    pub fn start(
        directory: &Path,
        nodes: &[u16],
        lanes: u8,
        address: SocketAddr,
        rounds: u64,
        append: impl Fn(&mut Edge) + Copy + Send + 'static,
    ) -> Self {
        let (address, quic) = (Arc::new(Mutex::new(address)), client(directory));
        let ship = |node: &u16| {
            let (address, quic) = (Arc::clone(&address), quic.clone());
            let mut edge = Edge::open(&directory.join(format!("spool-{node}")), *node, lanes);
            tokio::spawn(async move {
                let mut appended = 0;
                while appended < rounds || !edge.is_done() {
                    if appended < rounds {
                        append(&mut edge);
                        appended += 1;
                    }
                    let address = *address.lock();
                    edge.ship(address, quic.clone()).await;
                }
            })
        };
        let tasks = nodes.iter().map(ship).collect();
        Self { address, tasks }
    }

    /// Asserts that a fault now would hit edges that ship.
    pub fn assert_shipping(&self) {
        let done = self.tasks.iter().all(JoinHandle::is_finished);
        assert!(!done, "faults must hit shipping edges");
    }

    pub fn redirect(&self, address: SocketAddr) {
        *self.address.lock() = address;
    }

    pub async fn finish(self) {
        for task in self.tasks {
            let done = tokio::time::timeout(Duration::from_secs(120), task).await;
            done.expect("shipped in time").expect("no panic");
        }
    }
}

const LIMITS: InFlightLimits = InFlightLimits {
    batches: 8,
    bytes: 1 << 20,
};
