//! A simulated edge with the product's sealer, sender and messages on its own QUIC connection. A generator replaces
//! visitors and journal.

use super::clicks::Clicks;
use super::schedule::EdgeSchedule;
use anyhow::{Context as _, bail};
use event_shipping::tls::SERVER_NAME;
use event_shipping::{
    AggregatorMessage, BatchSpan, DEFAULT_BATCH_BYTES, EdgeMessage, IN_FLIGHT_LIMITS,
    MAX_CONTROL_MESSAGE_BYTES, Sealer, Sender, SentLane, read_message, write_message,
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tracking_events::{FORMAT_VERSION, LaneId, Micros, NodeId};

const LANE: u8 = 0;
const JOURNAL: u64 = 1;

/// An edge after its handshake with the aggregator.
pub(super) struct Edge {
    node: NodeId,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    shared: SharedSender,
}

/// What an edge has sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shipped {
    pub(super) batches: u64,
    /// Compressed bytes of the batches.
    pub(super) batch_bytes: u64,
    /// Bytes of UDP packets in both directions.
    pub(super) udp_bytes: u64,
}

impl Shipped {
    /// Adds the numbers of another edge.
    pub(super) const fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.batch_bytes += other.batch_bytes;
        self.udp_bytes += other.udp_bytes;
    }
}

/// Shared by sending and receiving.
struct SharedSender {
    sender: Mutex<Sender>,
    acknowledged: Notify,
}

impl Edge {
    /// Connects and sends `Hello`.
    pub(super) async fn connect(
        node: NodeId,
        aggregator: SocketAddr,
        tls: ClientConfig,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(tls, aggregator, SERVER_NAME)?;
        let connection = connecting.await.context("failed to connect")?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let mut sender = Sender::new(IN_FLIGHT_LIMITS);
        sender.add_lane(SentLane {
            lane: LANE,
            journal: JOURNAL,
            acknowledged: 0,
            released: 0,
        });
        let hello = EdgeMessage::Hello(sender.hello(node.0, "simulated"));
        write_message(&mut send, &hello).await?;
        match read_message(&mut receive, MAX_CONTROL_MESSAGE_BYTES).await? {
            Some(AggregatorMessage::Welcome(welcome)) => sender.welcome(&welcome)?,
            other => bail!("expected Welcome, received {other:?}"),
        };
        Ok(Self {
            node,
            connection,
            send,
            receive,
            shared: SharedSender {
                sender: Mutex::new(sender),
                acknowledged: Notify::new(),
            },
        })
    }

    /// Ships all clicks of its schedule, waits until ClickHouse has them, and closes the connection.
    pub(super) async fn ship(mut self, share: EdgeSchedule) -> anyhow::Result<Shipped> {
        let before = udp_bytes(&self.connection);
        let clicks = Clicks::new(self.node, LaneId(LANE))?;
        let (mut shipped, ()) = tokio::try_join!(
            send(&mut self.send, &self.shared, clicks, share),
            receive_acks(&mut self.receive, &self.shared, share.count()),
        )?;
        shipped.udp_bytes = udp_bytes(&self.connection) - before;
        self.connection.close(0_u32.into(), b"");
        Ok(shipped)
    }
}

fn udp_bytes(connection: &Connection) -> u64 {
    let stats = connection.stats();
    stats.udp_tx.bytes + stats.udp_rx.bytes
}

async fn send(
    stream: &mut SendStream,
    shared: &SharedSender,
    mut clicks: Clicks,
    share: EdgeSchedule,
) -> anyhow::Result<Shipped> {
    let (mut shipped, mut sent) = (Shipped::default(), 0);
    let (mut sealer, mut frames) = (Sealer::new()?, Vec::new());
    while sent < share.count() {
        tokio::time::sleep_until(share.sealed_at(sent).into()).await;
        let (after, now) = (sent, share.elapsed());
        while sent < share.count()
            && share.due(sent) <= now
            && (frames.len() as u64) < DEFAULT_BATCH_BYTES
        {
            let time = share.time(share.due(sent));
            sent += 1;
            clicks.write(sent, time, &mut frames)?;
        }
        let span = BatchSpan {
            lane: LANE,
            journal: JOURNAL,
            format_version: FORMAT_VERSION,
            after,
            first: after + 1,
            last: sent,
            events: u32::try_from(sent - after)?,
        };
        let batch = sealer.seal(&span, &frames, Micros::now().0)?;
        frames.clear();
        shipped.batches += 1;
        shipped.batch_bytes += batch.payload.len() as u64;
        shared.wait_for_room(batch.payload.len()).await;
        shared.sender().push(batch)?;
        let next = shared.sender().next_batch().context("it was just pushed")?;
        write_message(stream, &EdgeMessage::Batch(next)).await?;
    }
    Ok(shipped)
}

/// Receives acknowledgements until ClickHouse has everything up to `last`.
async fn receive_acks(
    stream: &mut RecvStream,
    shared: &SharedSender,
    last: u64,
) -> anyhow::Result<()> {
    let mut taken = 0;
    while taken < last {
        match read_message(stream, MAX_CONTROL_MESSAGE_BYTES).await? {
            Some(AggregatorMessage::Ack(ack)) => {
                taken = ack.taken;
                shared.sender().ack(&ack)?;
                shared.acknowledged.notify_one();
            }
            other => bail!("expected an acknowledgement, received {other:?}"),
        }
    }
    Ok(())
}

impl SharedSender {
    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().expect("no code panics while holding it")
    }

    /// Waits until `bytes` more may be unacknowledged.
    async fn wait_for_room(&self, bytes: usize) {
        while !self.sender().has_capacity(bytes) {
            self.acknowledged.notified().await;
        }
    }
}
