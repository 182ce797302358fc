//! A simulated edge that ships reports with a real journal, real messages and real QUIC.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::Micros;
use event_journal::{LaneReader, LaneWriter, SyncThread};
use event_shipping::tls::{SERVER_NAME, Subject, load_or_create};
use event_shipping::{
    AggregatorMessage, Batch, BatchSpan, EdgeMessage, Hello, LaneHello, MAX_CONTROL_MESSAGE_BYTES,
    PROTOCOL_VERSION, Sealer, read_message, write_message,
};
use quinn::{ClientConfig, Endpoint, RecvStream};
use tokio::time::{sleep, timeout};
use tracking_events::{Event, MAX_EVENT_BYTES, encode};

use super::directory::open_journal;

/// Approximate frame bytes per batch.
const BATCH_BYTES: usize = 64 << 10;
const SHIPPING_TIMEOUT: Duration = Duration::from_secs(120);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Reporter {
    pub(super) node: u16,
    address: SocketAddr,
    config: ClientConfig,
    journal: u64,
    writer: LaneWriter,
    reader: LaneReader,
    sealer: Sealer,
    _keeper: SyncThread,
}

impl Reporter {
    /// Journal and certificate are in `dir`, beside those of the stack.
    pub(super) fn open(dir: &Path, node: u16, address: SocketAddr) -> anyhow::Result<Self> {
        let tls = dir.join(format!("tls/edge-{node}"));
        let identity = load_or_create(&tls, &Subject::Edge(vec![node]))?;
        let opened = open_journal(&dir.join(format!("edge-{node}")))?;
        Ok(Self {
            node,
            address,
            config: identity.client_config()?,
            journal: opened.journal,
            writer: opened.writers.into_iter().next().context("one lane")?,
            reader: opened.readers.into_iter().next().context("one lane")?,
            sealer: Sealer::new()?,
            _keeper: opened.sync_thread,
        })
    }

    pub(super) fn append(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let accepted = self
            .writer
            .append(MAX_EVENT_BYTES, |room| encode(event, room).ok());
        accepted.context("the journal rejected a report")?;
        Ok(())
    }

    /// Ships until everything is acknowledged.
    pub(super) async fn ship(&mut self) -> anyhow::Result<()> {
        let shipping = async {
            while let Err(error) = self.ship_once().await {
                eprintln!("node {}: {error:#}; retrying", self.node);
                sleep(RETRY_INTERVAL).await;
            }
        };
        timeout(SHIPPING_TIMEOUT, shipping)
            .await
            .context("reports were not acknowledged in time")
    }

    async fn ship_once(&mut self) -> anyhow::Result<()> {
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        endpoint.set_default_client_config(self.config.clone());
        let connecting = endpoint.connect(self.address, SERVER_NAME)?;
        let connection = timeout(RESPONSE_TIMEOUT, connecting).await??;
        let (mut send, mut receive) = connection.open_bi().await?;
        write_message(&mut send, &self.hello()).await?;
        let AggregatorMessage::Welcome(welcome) = response(&mut receive).await? else {
            bail!("no Welcome");
        };
        let state = welcome.lanes.first().context("one lane")?;
        self.reader.acknowledge(state.taken);
        self.reader.seek(state.received);
        while let Some(batch) = self.seal()? {
            write_message(&mut send, &EdgeMessage::Batch(batch)).await?;
        }
        while self.reader.acknowledged() + 1 < self.writer.next_seq() {
            match response(&mut receive).await? {
                AggregatorMessage::Ack(ack) => self.reader.acknowledge(ack.taken),
                other => bail!("no acknowledgement: {other:?}"),
            }
        }
        connection.close(0_u8.into(), b"done");
        Ok(())
    }

    fn hello(&self) -> EdgeMessage {
        EdgeMessage::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            node: self.node,
            software: "reporter".into(),
            lanes: vec![LaneHello {
                lane: 0,
                journal: self.journal,
                acknowledged: self.reader.acknowledged(),
                released: self.reader.released(),
            }],
        })
    }

    fn seal(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut frames = Vec::new();
        let Some(run) = self.reader.read(BATCH_BYTES, &mut frames)? else {
            return Ok(None);
        };
        let span = BatchSpan {
            lane: 0,
            journal: self.journal,
            format_version: run.format_version,
            after: run.after,
            first: run.first,
            last: run.last,
            events: run.events,
        };
        Ok(Some(self.sealer.seal(&span, &frames, Micros::now().0)?))
    }
}

async fn response(receive: &mut RecvStream) -> anyhow::Result<AggregatorMessage> {
    let response = timeout(
        RESPONSE_TIMEOUT,
        read_message(receive, MAX_CONTROL_MESSAGE_BYTES),
    );
    response
        .await??
        .context("the aggregator ended the connection")
}
