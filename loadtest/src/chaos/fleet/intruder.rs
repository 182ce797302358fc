//! An intruder with the certificate and a copy of the directory of node 1: each thing it tries must be without effect
//! on both edges, and show in a metric.

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
use super::{Fleet, SHOWN_WITHIN, shown_within};
use crate::chaos::toll::Toll;
use crate::traffic::Random;
use crate::verify;

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// More than any edge has written.
const HUGE: u64 = 1 << 61;
const CONNECTIONS_OF_MADE_UP_JOURNALS: u64 = 4;
/// In one `Hello`: with those of the edge itself fewer than one node may have.
const MADE_UP_JOURNALS: usize = 900;
/// What a batch claims, and the bytes of frames in it.
const CLAIMED_EVENTS: u32 = 1_000_000;
const FRAME_BYTES: usize = 200;
const REFUSED: &str = "aggregator_refused_total";
const CLAIMS: &str = "aggregator_lane_claims_total";

/// A connection with a stolen certificate.
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
        let connection = timeout(ANSWERED_WITHIN, connecting).await??;
        let (send, receive) = connection.open_bi().await?;
        Ok(Self {
            connection,
            send,
            receive,
        })
    }

    /// Sends a message and waits for the answer.
    async fn ask(&mut self, message: EdgeMessage) -> anyhow::Result<AggregatorMessage> {
        write_message(&mut self.send, &message).await?;
        let answer = read_message(&mut self.receive, MAX_CONTROL_MESSAGE_BYTES);
        let answer = timeout(ANSWERED_WITHIN, answer).await?;
        answer?.context("the aggregator did not answer")
    }

    async fn must_refuse(&mut self, message: EdgeMessage, code: RefuseCode) -> anyhow::Result<()> {
        match self.ask(message).await? {
            AggregatorMessage::Refuse(refuse) if refuse.code == code.number() => Ok(()),
            other => bail!("not refused with {}: {other:?}", code.reason()),
        }
    }

    async fn must_welcome(&mut self, hello: Hello) -> anyhow::Result<()> {
        match self.ask(EdgeMessage::Hello(hello)).await? {
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
    /// The intruder tries one thing after another.
    pub(super) fn intrude(&self, random: &mut Random) -> anyhow::Result<Toll> {
        let files = IdentityFiles::of(&self.stack.tls.join("edge-1"), Role::Edge);
        let config = load(&files)?.client_config()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let made_up = random.below(u64::MAX);
        let connect = || {
            let connecting = Intruder::connect(self.stack.aggregator_address, config.clone());
            runtime.block_on(connecting)
        };
        let mut toll = Toll::default();
        match self.turn % 4 {
            0 => self.watch(&mut toll, REFUSED, "node_mismatch", || {
                let hello = EdgeMessage::Hello(hello(2, &[made_up]));
                let code = RefuseCode::NodeMismatch;
                runtime.block_on(connect()?.must_refuse(hello, code))
            })?,
            1 => {
                let stolen = self.journals_of_node_1()?;
                self.watch(&mut toll, CLAIMS, "outcome", || {
                    runtime.block_on(connect()?.must_welcome(hello(1, &stolen)))
                })?;
            }
            2 => self.watch(&mut toll, REFUSED, "\"header\"", || {
                let mut intruder = connect()?;
                runtime.block_on(intruder.must_welcome(hello(1, &[made_up])))?;
                let batch = EdgeMessage::Batch(bloated_batch(made_up)?);
                runtime.block_on(intruder.must_refuse(batch, RefuseCode::Header))
            })?,
            _ => self.watch(&mut toll, CLAIMS, "outcome", || {
                for _ in 0..CONNECTIONS_OF_MADE_UP_JOURNALS {
                    let many = std::iter::repeat_with(|| random.below(u64::MAX));
                    let many: Vec<_> = many.take(MADE_UP_JOURNALS).collect();
                    runtime.block_on(connect()?.must_welcome(hello(1, &many)))?;
                }
                Ok(())
            })?,
        }
        Ok(toll)
    }

    /// Whether a metric rises with what the intruder does.
    fn watch(
        &self,
        toll: &mut Toll,
        name: &str,
        labels: &str,
        intrude: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let admin = &self.stack.aggregator_admin_url;
        let before = verify::labelled_counter(admin, name, labels)?;
        intrude().with_context(|| format!("{name} {labels}"))?;
        let rises = || Ok(verify::labelled_counter(admin, name, labels)? > before);
        toll.intrusion(shown_within(SHOWN_WITHIN, rises));
        Ok(())
    }

    /// The journal ids that node 1 ships under, as a copy of its directory shows them.
    fn journals_of_node_1(&self) -> anyhow::Result<Vec<u64>> {
        let stolen = self.stack.dir().join("stolen");
        replace(&self.stack.dir().join("edge-1"), &stolen)?;
        let opened = open_journal(&stolen)?;
        let ranges = opened.ids.ranges(0).into_iter();
        Ok(ranges.map(|range| range.journal).collect())
    }
}

/// Claims that everything of these journals was acknowledged and deleted.
fn hello(node: u16, journals: &[u64]) -> Hello {
    let lane = |journal: &u64| LaneHello {
        lane: 0,
        journal: *journal,
        acknowledged: HUGE,
        released: HUGE,
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
        after: HUGE,
        first: HUGE + 1,
        last: HUGE + 1,
        events: 1,
    };
    let mut batch = Sealer::new()?.seal(&span, &[b'x'; FRAME_BYTES], 1)?;
    batch.header.last = HUGE + u64::from(CLAIMED_EVENTS);
    batch.header.events = CLAIMED_EVENTS;
    Ok(batch)
}
