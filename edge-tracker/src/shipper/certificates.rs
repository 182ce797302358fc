//! The certificates with which this edge authenticates: after a file changes, the edge reconnects with the new ones at
//! once.

use crate::metrics::Metrics;
use domain::NodeId;
use event_shipping::tls::{
    self, Identity, IdentityFiles, RevocationList, Role, Subject, TlsError, WatchedIdentity,
};
use quinn::ClientConfig;
use std::path::Path;
use tokio::sync::watch;

/// The credentials of a connection to the aggregator.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// This edge's certificate, and the authorities of the aggregator.
    pub config: ClientConfig,
    /// Aggregators' certificates that are no longer accepted.
    pub revoked: RevocationList,
}

/// The certificate files, and the credentials that follow from them.
#[derive(Debug)]
pub struct Certificates {
    watched: WatchedIdentity,
    node: NodeId,
    credentials: watch::Sender<Credentials>,
    metrics: Metrics,
}

impl Certificates {
    /// Reads the certificates in `dir`; issues some where there are none and `development` is set.
    ///
    /// # Errors
    /// When they are absent, can't be used or do not name `node`.
    pub fn open(
        dir: &Path,
        node: NodeId,
        development: bool,
        metrics: Metrics,
    ) -> Result<Self, TlsError> {
        tls::open(dir, &Subject::Edge(vec![node.0]), development)?;
        let (watched, identity) = WatchedIdentity::load(IdentityFiles::of(dir, Role::Edge))?;
        let credentials = Credentials::of(&identity, node)?;
        if let Err(error) = identity.require_unexpired() {
            tracing::error!(%error, "the aggregator will refuse this edge; events are kept in the journal");
        }
        let expires_at = identity.certificate().expires_at();
        metrics.certificate_expiry.set(expires_at);
        Ok(Self {
            watched,
            node,
            credentials: watch::Sender::new(credentials),
            metrics,
        })
    }

    /// The active credentials, now and after each reload.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Credentials> {
        self.credentials.subscribe()
    }

    /// Watches the files until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.watched.changed() => self.reload().await,
            }
        }
    }

    async fn reload(&self) {
        let node = self.node;
        let prepare = move |identity: &Identity| Credentials::of(identity, node);
        let outcome = match self.watched.reload(prepare).await {
            Some((identity, credentials)) => {
                let expires_at = identity.certificate().expires_at();
                self.metrics.certificate_expiry.set(expires_at);
                self.credentials.send_replace(credentials);
                "loaded"
            }
            None => "refused",
        };
        let reloads = &self.metrics.reloads;
        reloads.with_label_values(&["certificates", outcome]).inc();
    }
}

impl Credentials {
    fn of(identity: &Identity, node: NodeId) -> Result<Self, TlsError> {
        identity.require_node(node.0)?;
        Ok(Self {
            config: identity.client_config()?,
            revoked: identity.revoked().clone(),
        })
    }
}
