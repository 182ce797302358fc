//! Certificates, authorities and the revocation list, read again while running when a file changes.

use super::metrics::ConnectionMetrics;
use daemon::files::WatchedFiles;
use event_shipping::tls::{self, Identity, IdentityFiles, TlsError, Trust};
use quinn::{Endpoint, ServerConfig};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks of the files between two checks of all connected edges' certificates, which may expire.
const CHECKS_PER_EXPIRY_CHECK: u32 = 3_600;

/// The certificates in use.
pub(crate) struct Certificates {
    files: IdentityFiles,
    watched: WatchedFiles,
    trust: watch::Sender<Trust>,
    metrics: ConnectionMetrics,
}

impl Certificates {
    /// Reads `files`, which must exist.
    pub(crate) fn load(
        files: IdentityFiles,
        metrics: ConnectionMetrics,
    ) -> Result<(Self, Identity), TlsError> {
        let watched = WatchedFiles::new(files.paths());
        let identity = tls::load(&files)?;
        show(&identity, &metrics);
        let certificates = Self {
            watched,
            trust: watch::Sender::new(identity.trust()?),
            files,
            metrics,
        };
        Ok((certificates, identity))
    }

    /// What decides on edges' certificates, now and after each reload.
    pub(super) fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Follows the files for as long as it is polled.
    pub(super) async fn run(mut self, endpoint: Endpoint) {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checks = 0;
        loop {
            check.tick().await;
            checks += 1;
            if self.watched.changed() {
                self.reload(&endpoint).await;
            } else if checks >= CHECKS_PER_EXPIRY_CHECK {
                self.trust.send_modify(|_| {});
                checks = 0;
            }
        }
    }

    /// A file that can't be used changes nothing, until a file changes again.
    async fn reload(&self, endpoint: &Endpoint) {
        let files = self.files.clone();
        let loaded = spawn_blocking(move || read(&files)).await;
        let outcome = match loaded {
            Ok(Ok((identity, trust, server))) => {
                tracing::info!("certificates reloaded");
                show(&identity, &self.metrics);
                self.trust.send_replace(trust);
                endpoint.set_server_config(Some(server));
                "loaded"
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "certificates are refused; those in use stay");
                "refused"
            }
            Err(error) => {
                tracing::error!(%error, "reading certificates failed");
                "refused"
            }
        };
        let reloads = &self.metrics.certificate_reloads;
        reloads.with_label_values(&[outcome]).inc();
    }
}

fn read(files: &IdentityFiles) -> Result<(Identity, Trust, ServerConfig), TlsError> {
    let identity = tls::load(files)?;
    identity.require_unexpired()?;
    let (trust, server) = (identity.trust()?, identity.server_config()?);
    Ok((identity, trust, server))
}

fn show(identity: &Identity, metrics: &ConnectionMetrics) {
    let certificate = identity.certificate();
    metrics.certificate_expiry.set(certificate.expires_at());
    tracing::info!(fingerprint = %certificate.fingerprint(), expires_at = certificate.expires_at(), revoked = identity.revoked().len(), "certificate in use");
}
