//! The certificates in use; connections follow when the files change.

use super::metrics::ConnectionMetrics;
use event_shipping::tls::{Identity, IdentityFiles, TlsError, Trust, WatchedIdentity};
use quinn::Endpoint;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

/// How often certificates of connected edges are checked for expiry.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);

/// The certificates in use.
pub(crate) struct Certificates {
    watched: WatchedIdentity,
    trust: watch::Sender<Trust>,
    metrics: ConnectionMetrics,
}

impl Certificates {
    /// Reads `files`, which must exist.
    pub(crate) fn load(
        files: IdentityFiles,
        metrics: ConnectionMetrics,
    ) -> Result<(Self, Identity), TlsError> {
        let (watched, identity) = WatchedIdentity::load(files)?;
        let expires_at = identity.certificate().expires_at();
        metrics.certificate_expiry.set(expires_at);
        let certificates = Self {
            watched,
            trust: watch::Sender::new(identity.trust()?),
            metrics,
        };
        Ok((certificates, identity))
    }

    /// The present authorities and revocation list, also after each reload.
    pub(super) fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Reloads changed files until it is dropped.
    pub(super) async fn run(mut self, endpoint: Endpoint) {
        let first = Instant::now() + EXPIRY_CHECK_INTERVAL;
        let mut expiry_check = interval_at(first, EXPIRY_CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = self.watched.changed() => self.reload(&endpoint).await,
                _ = expiry_check.tick() => self.trust.send_modify(|_| {}),
            }
        }
    }

    async fn reload(&self, endpoint: &Endpoint) {
        let prepare = |it: &Identity| Ok((it.trust()?, it.server_config()?));
        let outcome = match self.watched.reload(prepare).await {
            Some((identity, (trust, server))) => {
                let expires_at = identity.certificate().expires_at();
                self.metrics.certificate_expiry.set(expires_at);
                self.trust.send_replace(trust);
                endpoint.set_server_config(Some(server));
                "loaded"
            }
            None => "refused",
        };
        let reloads = &self.metrics.certificate_reloads;
        reloads.with_label_values(&[outcome]).inc();
    }
}
