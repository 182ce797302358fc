//! An intruder with the certificate and a copy of the directory of node 1. Each attempt must have no effect on the
//! edges and must raise a metric.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use event_shipping::tls::{IdentityFiles, Role, SERVER_NAME, load};
use event_shipping::{
    AggregatorMessage, Batch, BatchSpan, EdgeMessage, Hello, LaneHello, MAX_CONTROL_MESSAGE_BYTES,
    PROTOCOL_VERSION, RefuseCode, Sealer, read_message, write_message,
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use tokio::time::timeout;
use tracking_events::FORMAT_VERSION;

use super::directory::{open_journal, replace};
use super::{EFFECT_TIMEOUT, Fleet, holds_within};
use crate::chaos::counts::FaultCounts;
use crate::traffic::Random;
use crate::verify;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Above any sequence that an edge has written.
const HUGE_SEQ: u64 = 1 << 61;
const FORGED_JOURNAL_CONNECTIONS: u64 = 4;
/// Journals per `Hello`; with the edge's own they stay below the limit per node.
const FORGED_JOURNALS: usize = 900;
/// Number of events that a batch claims, and its actual frame bytes.
const CLAIMED_EVENTS: u32 = 1_000_000;
const FRAME_BYTES: usize = 200;
const REFUSED_METRIC: &str = "aggregator_refused_total";
const CLAIMS_METRIC: &str = "aggregator_lane_claims_total";

/// A connection authenticated with a stolen certificate.
struct Intruder {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Intruder {
    async fn connect(address: SocketAddr, config: ClientConfig) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(address, SERVER_NAME)?;
        let connection = timeout(RESPONSE_TIMEOUT, connecting).await??;
        let (send, receive) = connection.open_bi().await?;
        Ok(Self {
            connection,
            send,
            receive,
        })
    }

    /// Sends a message and waits for the response.
    async fn request(&mut self, message: EdgeMessage) -> anyhow::Result<AggregatorMessage> {
        write_message(&mut self.send, &message).await?;
        let response = read_message(&mut self.receive, MAX_CONTROL_MESSAGE_BYTES);
        let response = timeout(RESPONSE_TIMEOUT, response).await?;
        response?.context("the aggregator did not respond")
    }

    async fn expect_refuse(
        &mut self,
        message: EdgeMessage,
        code: RefuseCode,
    ) -> anyhow::Result<()> {
        match self.request(message).await? {
            AggregatorMessage::Refuse(refuse) if refuse.code == code.number() => Ok(()),
            other => bail!("not refused with {}: {other:?}", code.name()),
        }
    }

    async fn expect_welcome(&mut self, hello: Hello) -> anyhow::Result<()> {
        match self.request(EdgeMessage::Hello(hello)).await? {
            AggregatorMessage::Welcome(_) => Ok(()),
            other => bail!("no Welcome: {other:?}"),
        }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.connection.close(0_u8.into(), b"");
    }
}

impl Fleet<'_> {
    /// Makes the next of the intruder's attempts.
    pub(super) fn intrude(&self, random: &mut Random) -> anyhow::Result<FaultCounts> {
        let files = IdentityFiles::of(&self.stack.tls.join("edge-1"), Role::Edge);
        let config = load(&files)?.client_config()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let forged = random.below(u64::MAX);
        let connect = || {
            let connecting = Intruder::connect(self.stack.aggregator_address, config.clone());
            runtime.block_on(connecting)
        };
        let mut counts = FaultCounts::default();
        match self.turn % 4 {
            0 => self.expect_alert(&mut counts, REFUSED_METRIC, "node_mismatch", || {
                let hello = EdgeMessage::Hello(hello(2, &[forged]));
                let code = RefuseCode::NodeMismatch;
                runtime.block_on(connect()?.expect_refuse(hello, code))
            })?,
            1 => {
                let stolen = self.journals_of_node_1()?;
                self.expect_alert(&mut counts, CLAIMS_METRIC, "outcome", || {
                    runtime.block_on(connect()?.expect_welcome(hello(1, &stolen)))
                })?;
            }
            2 => self.expect_alert(&mut counts, REFUSED_METRIC, "\"header\"", || {
                let mut intruder = connect()?;
                runtime.block_on(intruder.expect_welcome(hello(1, &[forged])))?;
                let batch = EdgeMessage::Batch(bloated_batch(forged)?);
                runtime.block_on(intruder.expect_refuse(batch, RefuseCode::Header))
            })?,
            _ => self.expect_alert(&mut counts, CLAIMS_METRIC, "outcome", || {
                for _ in 0..FORGED_JOURNAL_CONNECTIONS {
                    let many = std::iter::repeat_with(|| random.below(u64::MAX));
                    let many: Vec<_> = many.take(FORGED_JOURNALS).collect();
                    runtime.block_on(connect()?.expect_welcome(hello(1, &many)))?;
                }
                Ok(())
            })?,
        }
        Ok(counts)
    }

    /// Checks that a metric rises during the attempt.
    fn expect_alert(
        &self,
        counts: &mut FaultCounts,
        name: &str,
        labels: &str,
        intrude: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let admin = &self.stack.aggregator_admin_url;
        let before = verify::labelled_counter(admin, name, labels)?;
        intrude().with_context(|| format!("{name} {labels}"))?;
        let rises = || Ok(verify::labelled_counter(admin, name, labels)? > before);
        counts.count_intrusion(holds_within(EFFECT_TIMEOUT, rises));
        Ok(())
    }

    /// The journal ids that node 1 ships under, read from a copy of its directory.
    fn journals_of_node_1(&self) -> anyhow::Result<Vec<u64>> {
        let stolen = self.stack.dir().join("stolen");
        replace(&self.stack.dir().join("edge-1"), &stolen)?;
        let opened = open_journal(&stolen)?;
        let ranges = opened.ids.ranges(0).into_iter();
        Ok(ranges.map(|range| range.journal).collect())
    }
}

/// Claims that all events of these journals were acknowledged and deleted.
fn hello(node: u16, journals: &[u64]) -> Hello {
    let lane = |journal: &u64| LaneHello {
        lane: 0,
        journal: *journal,
        acknowledged: HUGE_SEQ,
        released: HUGE_SEQ,
    };
    Hello {
        protocol: PROTOCOL_VERSION,
        node,
        software: "intruder".into(),
        lanes: journals.iter().map(lane).collect(),
    }
}

/// A batch of a few bytes that claims to hold many events.
fn bloated_batch(journal: u64) -> anyhow::Result<Batch> {
    let span = BatchSpan {
        lane: 0,
        journal,
        format_version: FORMAT_VERSION,
        after: HUGE_SEQ,
        first: HUGE_SEQ + 1,
        last: HUGE_SEQ + 1,
        events: 1,
    };
    let mut batch = Sealer::new()?.seal(&span, &[b'x'; FRAME_BYTES], 1)?;
    batch.header.last = HUGE_SEQ + u64::from(CLAIMED_EVENTS);
    batch.header.events = CLAIMED_EVENTS;
    Ok(batch)
}
