//! The authenticated peer of a connection: its certificate, the nodes it may represent, and whether the certificate is
//! still trusted.

use super::refusal::ConnectionEnd;
use event_shipping::RefuseCode;
use event_shipping::tls::{Certificate, Fingerprint, TlsError, Trust};
use quinn::Connection;
use std::fmt;
use std::net::SocketAddr;
use tokio::sync::watch;

/// The other end of an authenticated connection.
pub(crate) struct Peer {
    address: SocketAddr,
    certificate: Certificate,
    trust: watch::Receiver<Trust>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, fingerprint) = (self.address, self.fingerprint());
        write!(f, "{address} with certificate {fingerprint}")
    }
}

impl Peer {
    /// The peer of `connection`; `trust` follows changes of authorities and revocations.
    pub(super) fn of(
        connection: &Connection,
        trust: watch::Receiver<Trust>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            address: connection.remote_address(),
            certificate: Certificate::of_peer(connection)?,
            trust,
        })
    }

    pub(super) const fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    pub(super) const fn expires_at(&self) -> i64 {
        self.certificate.expires_at()
    }

    /// Refuses a `Hello` whose certificate is not trusted or does not name its node.
    pub(super) fn authorize(&self, node: u16) -> Result<(), ConnectionEnd> {
        self.check_trust()?;
        let nodes = self.certificate.nodes();
        if nodes.contains(&node) {
            return Ok(());
        }
        tracing::error!(alert = true, certificate_nodes = ?nodes, fingerprint = %self.fingerprint(), "an edge used a certificate that does not name its node; if the edge is configured correctly, add the fingerprint to revoked.txt");
        let named = if nodes.is_empty() {
            "no node".to_owned()
        } else {
            format!("nodes {nodes:?}")
        };
        let why = format!(
            "the certificate names {named}, not node {node}; issue one: aggregator issue-edge-certificate --node {node}"
        );
        Err(ConnectionEnd::refuse(RefuseCode::NodeMismatch, why))
    }

    /// Waits until the certificate is no longer trusted.
    pub(super) async fn distrusted(&self) -> ConnectionEnd {
        let mut trust = self.trust.clone();
        loop {
            trust.mark_unchanged();
            if let Err(end) = self.check_trust() {
                return end;
            }
            if trust.changed().await.is_err() {
                // The aggregator is stopping, and sends that to the edge.
                return std::future::pending().await;
            }
        }
    }

    fn check_trust(&self) -> Result<(), ConnectionEnd> {
        let checked = self.trust.borrow().check(&self.certificate);
        checked.map_err(|cause| {
            tracing::error!(alert = true, certificate_nodes = ?self.certificate.nodes(), fingerprint = %self.fingerprint(), %cause, "closed the connection of an edge whose certificate is no longer trusted");
            ConnectionEnd::refuse(RefuseCode::Revoked, cause)
        })
    }
}
