//! The certificates that this edge authenticates itself with, read again while running when a file
//! changes: the next connection uses them, and is opened at once.

use crate::metrics::Metrics;
use daemon::files::WatchedFiles;
use event_shipping::tls::{self, Identity, IdentityFiles, RevocationList, Role, Subject, TlsError};
use quinn::ClientConfig;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracking_events::NodeId;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a connection to the aggregator is opened with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// This edge's certificate, and the authorities of the aggregator.
    pub config: ClientConfig,
    /// Aggregators' certificates that are no longer accepted.
    pub revoked: RevocationList,
}

/// The files of certificates, and the credentials made of them.
#[derive(Debug)]
pub struct Certificates {
    files: IdentityFiles,
    watched: WatchedFiles,
    node: NodeId,
    credentials: watch::Sender<Credentials>,
    metrics: Metrics,
}

impl Certificates {
    /// Reads the certificates in `dir`; where there are none, it gets some for `development`.
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
        let files = IdentityFiles::of(dir, Role::Edge);
        let watched = WatchedFiles::new(files.paths());
        let (identity, credentials) = read(&files, node)?;
        if let Err(error) = identity.require_unexpired() {
            tracing::error!(%error, "the aggregator will refuse this edge; events are kept in the journal");
        }
        show(&identity, &metrics);
        Ok(Self {
            files,
            watched,
            node,
            credentials: watch::Sender::new(credentials),
            metrics,
        })
    }

    /// The credentials in use, now and after each reload.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Credentials> {
        self.credentials.subscribe()
    }

    /// Follows the files until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = check.tick() => {}
            }
            if self.watched.changed() {
                self.reload().await;
            }
        }
    }

    /// A file that can't be used changes nothing, until a file changes again.
    async fn reload(&self) {
        let (files, node) = (self.files.clone(), self.node);
        let loaded = spawn_blocking(move || {
            let (identity, credentials) = read(&files, node)?;
            identity.require_unexpired()?;
            Ok::<_, TlsError>((identity, credentials))
        });
        let outcome = match loaded.await {
            Ok(Ok((identity, credentials))) => {
                tracing::info!("certificates reloaded");
                show(&identity, &self.metrics);
                self.credentials.send_replace(credentials);
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
        let reloads = &self.metrics.reloads;
        reloads.with_label_values(&["certificates", outcome]).inc();
    }
}

fn read(files: &IdentityFiles, node: NodeId) -> Result<(Identity, Credentials), TlsError> {
    let identity = tls::load(files)?;
    identity.require_node(node.0)?;
    let credentials = Credentials {
        config: identity.client_config()?,
        revoked: identity.revoked().clone(),
    };
    Ok((identity, credentials))
}

fn show(identity: &Identity, metrics: &Metrics) {
    let certificate = identity.certificate();
    metrics.certificate_expiry.set(certificate.expires_at());
    tracing::info!(fingerprint = %certificate.fingerprint(), expires_at = certificate.expires_at(), "certificate in use");
}
