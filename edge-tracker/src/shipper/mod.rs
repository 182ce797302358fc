//! Ships what the journal holds to the aggregator, and lets the journal delete what ClickHouse has.
//!
//! Sealing, connecting and answering acknowledgements belong here; what an event says never does.

mod conversation;
mod spool;

pub use spool::{Progress, Spool};

use crate::metrics::Metrics;
use crate::settings::AggregatorSettings;
use conversation::Ended;
use event_shipping::tls;
use quinn::{ClientConfig, Endpoint};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tracking_events::NodeId;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything the shipper works with.
#[derive(Debug)]
pub struct Shipper {
    /// This node.
    pub node: NodeId,
    /// Where to, and in which portions.
    pub settings: AggregatorSettings,
    /// Who we are.
    pub tls: ClientConfig,
    /// What is to be shipped.
    pub spool: Spool,
    /// What operators see.
    pub metrics: Metrics,
}

impl Shipper {
    /// Ships until `stop` turns true, reconnecting with growing pauses whenever it must.
    ///
    /// # Errors
    /// When no UDP socket can be had at all.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let endpoint = endpoint()?;
        let mut pause = FIRST_PAUSE;
        while !*stop.borrow() {
            let connected = tokio::select! {
                connected = self.connect(&endpoint) => connected,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let reason = match connected {
                Ok(connection) => {
                    let ended = conversation::hold(&mut self, &connection, stop.clone()).await;
                    self.metrics.connected.set(0);
                    self.spool.disconnected();
                    connection.close(0_u32.into(), b"");
                    if let Ended { welcomed: true, .. } = ended {
                        pause = FIRST_PAUSE;
                    }
                    ended.reason
                }
                Err(reason) => reason,
            };
            if *stop.borrow() {
                break;
            }
            self.metrics
                .disconnects
                .with_label_values(&[reason.label])
                .inc();
            tracing::warn!(aggregator = %self.settings.address, reason = %reason.detail, retry_in = ?pause, "not shipping; events are kept in the journal");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.changed() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        endpoint.wait_idle().await;
        Ok(())
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<quinn::Connection, Reason> {
        let address = resolve(&self.settings.address).await?;
        let connecting = endpoint
            .connect_with(self.tls.clone(), address, tls::SERVER_NAME)
            .map_err(|error| Reason::new("connect", error))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Reason::new("connect", error)),
            Err(_) => Err(Reason::new("connect_timeout", "no answer")),
        }
    }
}

/// Why a connection could not be had or ended.
#[derive(Debug)]
struct Reason {
    label: &'static str,
    detail: String,
}

impl Reason {
    fn new(label: &'static str, detail: impl ToString) -> Self {
        Self {
            label,
            detail: detail.to_string(),
        }
    }
}

/// A socket for both families, or for IPv4 alone where the system has no IPv6.
fn endpoint() -> io::Result<Endpoint> {
    Endpoint::client(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        .or_else(|_| Endpoint::client(SocketAddr::from(([0, 0, 0, 0], 0))))
}

async fn resolve(address: &str) -> Result<SocketAddr, Reason> {
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Reason::new("resolve", error))?;
    found
        .next()
        .ok_or_else(|| Reason::new("resolve", "the name has no address"))
}
