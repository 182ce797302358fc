//! The QUIC side: accepts edges, one task per connection. What becomes of batches is not known here.

mod certificates;
mod claims;
mod connection;
mod greeting;
mod handshake;
mod metrics;
mod peer;
mod places;
mod refusal;
mod table;

pub(crate) use certificates::Certificates;
pub(crate) use connection::converse;
pub(crate) use metrics::ConnectionMetrics;
pub(crate) use places::Places;
pub(crate) use table::ConnectionTable;

use crate::fleet::Fleet;
use crate::ingest_queue::IngestQueue;
use crate::metrics::Metrics;
use crate::phase::Phase;
use event_shipping::RefuseCode;
use handshake::{FAILURE_LOG_INTERVAL, Handshakes};
use quinn::Endpoint;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ingest_queue: Arc<IngestQueue>,
    pub(crate) metrics: Metrics,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) places: Arc<Places>,
    pub(crate) table: Arc<ConnectionTable>,
    pub(crate) connections: ConnectionMetrics,
    /// What welcomes say of the fleet, where there is one.
    pub(crate) fleet: Option<Arc<Fleet>>,
}

impl Shared {
    async fn phase(&self, wanted: Phase) {
        let mut phase = self.phase.clone();
        // An error means that the whole process is going away.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }
}

/// Accepts edges until the phase is no longer serving, then waits for their goodbyes.
pub(crate) async fn serve(endpoint: Endpoint, shared: Shared, certificates: Certificates) {
    let handshakes = Handshakes::new(shared.metrics.clone(), shared.connections.clone());
    let trust = certificates.trust();
    // Ends with this function.
    let mut reloading = JoinSet::new();
    reloading.spawn(certificates.run(endpoint.clone()));
    let mut log_failures = interval(FAILURE_LOG_INTERVAL);
    log_failures.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.phase(Phase::Draining) => break,
            _ = log_failures.tick() => handshakes.log_failures(),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let Some((incoming, place)) = handshakes.admit(incoming) else { continue };
                let (handshakes, shared) = (Arc::clone(&handshakes), shared.clone());
                let trust = trust.clone();
                connections.spawn(async move {
                    if let Some(connection) = handshakes.complete(incoming, place).await {
                        connection::run(connection, trust, shared).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    handshakes.log_failures();
    while connections.join_next().await.is_some() {}
    endpoint.close(u32::from(RefuseCode::Stopping.number()).into(), b"stopping");
    endpoint.wait_idle().await;
}
