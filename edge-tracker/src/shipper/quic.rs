//! The way to the aggregator: QUIC with mutual TLS, one stream in each direction.

use super::{Dial, Reason};
use event_shipping::tls;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reaches an aggregator over QUIC.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    address: String,
    tls: ClientConfig,
    connection: Option<Connection>,
}

impl Quic {
    /// For the aggregator at `address` (`host:port`, looked up at each attempt), showing it what
    /// `tls` says we are. Runs in the current tokio runtime.
    ///
    /// # Errors
    /// When no UDP socket can be had at all.
    pub fn new(address: String, tls: ClientConfig) -> io::Result<Self> {
        Ok(Self {
            endpoint: endpoint()?,
            address,
            tls,
            connection: None,
        })
    }

    async fn connect(&self) -> Result<Connection, Reason> {
        let address = resolve(&self.address).await?;
        let connecting = self
            .endpoint
            .connect_with(self.tls.clone(), address, tls::SERVER_NAME)
            .map_err(|error| Reason::new("connect", error))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Reason::new("connect", error)),
            Err(_) => Err(Reason::new("connect_timeout", "no answer")),
        }
    }
}

impl Dial for Quic {
    type Send = SendStream;
    type Receive = RecvStream;

    fn peer(&self) -> &str {
        &self.address
    }

    async fn dial(&mut self) -> Result<(SendStream, RecvStream), Reason> {
        let connection = self.connect().await?;
        let streams = connection.open_bi().await;
        self.connection = Some(connection);
        streams.map_err(|error| Reason::new("connection", error))
    }

    fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close(0_u32.into(), b"");
        }
    }

    async fn finish(&mut self) {
        self.endpoint.wait_idle().await;
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
