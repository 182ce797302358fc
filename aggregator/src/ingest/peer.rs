//! The authenticated peer of a connection: its certificate, the nodes it may speak for, and whether
//! the certificate is still trusted.

use super::refusal::End;
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
    /// The peer of `connection`, judged by what `trust` holds from time to time.
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

    /// Refuses a `Hello` of a certificate that is not trusted or does not name its node.
    pub(super) fn authorize(&self, node: u16) -> Result<(), End> {
        self.check_trust()?;
        let nodes = self.certificate.nodes();
        if nodes.contains(&node) {
            return Ok(());
        }
        tracing::error!(alert = true, address = %self.address, claimed_node = node, certificate_nodes = ?nodes, fingerprint = %self.fingerprint(), "a certificate was used for a node that it does not name; if the edge is not misconfigured, add the fingerprint to revoked.txt");
        let named = if nodes.is_empty() {
            "no node".to_owned()
        } else {
            format!("nodes {nodes:?}")
        };
        let why = format!(
            "the certificate names {named}, not node {node}; issue one: aggregator issue-edge-certificate --node {node}"
        );
        Err(End::refuse(RefuseCode::NodeMismatch, why))
    }

    /// Waits until the certificate is not trusted any more.
    pub(super) async fn distrusted(&self) -> End {
        let mut trust = self.trust.clone();
        loop {
            trust.mark_unchanged();
            if let Err(end) = self.check_trust() {
                return end;
            }
            if trust.changed().await.is_err() {
                // The aggregator is stopping, and says so to the edge.
                return std::future::pending().await;
            }
        }
    }

    fn check_trust(&self) -> Result<(), End> {
        let checked = self.trust.borrow().check(&self.certificate);
        checked.map_err(|cause| {
            tracing::error!(alert = true, address = %self.address, certificate_nodes = ?self.certificate.nodes(), fingerprint = %self.fingerprint(), %cause, "refused an edge whose certificate is not trusted");
            End::refuse(RefuseCode::Revoked, cause)
        })
    }
}
