//! Connections to the aggregator: QUIC with mutual TLS, one stream in each direction.

use super::{Credentials, Dial, Reason};
use event_shipping::tls::{self, Certificate};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens QUIC connections to an aggregator.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    address: String,
    credentials: watch::Receiver<Credentials>,
    connection: watch::Sender<Option<Connection>>,
}

impl Quic {
    /// For the aggregator at `address` (`host:port`, resolved at each attempt), with the newest `credentials` at each
    /// attempt. Runs in the current tokio runtime.
    ///
    /// # Errors
    /// When no UDP socket can be created.
    pub fn new(address: String, credentials: watch::Receiver<Credentials>) -> io::Result<Self> {
        Ok(Self {
            endpoint: endpoint()?,
            address,
            credentials,
            connection: watch::Sender::new(None),
        })
    }

    /// The connection in use, for other streams on it.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<Option<Connection>> {
        self.connection.subscribe()
    }

    async fn connect(&mut self) -> Result<Connection, Reason> {
        let address = resolve(&self.address).await?;
        let Credentials { config, revoked } = self.credentials.borrow_and_update().clone();
        let connecting = self
            .endpoint
            .connect_with(config, address, tls::SERVER_NAME)
            .map_err(|error| Reason::new("connect", error))?;
        let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(Reason::new("connect", error)),
            Err(_) => return Err(Reason::new("connect_timeout", "no response")),
        };
        let certificate =
            Certificate::of_peer(&connection).map_err(|error| Reason::new("connect", error))?;
        if revoked.contains(&certificate) {
            connection.close(0_u32.into(), b"");
            let fingerprint = certificate.fingerprint();
            let detail = format!("the aggregator's certificate is revoked: {fingerprint}");
            return Err(Reason::new("revoked", detail));
        }
        Ok(connection)
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
        self.connection.send_replace(Some(connection));
        streams.map_err(|error| Reason::new("connection", error))
    }

    fn replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut credentials = self.credentials.clone();
        async move {
            if credentials.changed().await.is_err() {
                // The certificates task has ended: the edge is shutting down.
                std::future::pending().await
            }
        }
    }

    fn close(&mut self) {
        if let Some(connection) = self.connection.send_replace(None) {
            connection.close(0_u32.into(), b"");
        }
    }

    async fn finish(&mut self) {
        self.endpoint.wait_idle().await;
    }
}

/// A socket for both families, or for IPv4 only where the system has no IPv6.
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
