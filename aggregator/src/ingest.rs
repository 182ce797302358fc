//! Accepts edges over QUIC, with one task per connection. Invariant: nothing here depends on the processing of batches.

mod certificates;
mod claims;
mod config_streams;
mod connection;
mod connection_slots;
mod greeting;
mod handshake;
mod metrics;
mod peer;
mod refusal;
mod table;

pub(crate) use certificates::Certificates;
pub(crate) use connection::converse;
pub(crate) use connection_slots::ConnectionSlots;
pub(crate) use metrics::ConnectionMetrics;
pub(crate) use table::ConnectionTable;

use crate::configuration::Configuration;
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

/// The state that connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ingest_queue: Arc<IngestQueue>,
    pub(crate) metrics: Metrics,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) slots: Arc<ConnectionSlots>,
    pub(crate) table: Arc<ConnectionTable>,
    pub(crate) connections: ConnectionMetrics,
    /// Time and visitor salt for `Welcome` messages, if there are any.
    pub(crate) fleet: Option<Arc<Fleet>>,
    /// The configuration of edges, if it comes from the control plane.
    pub(crate) configuration: Option<Configuration>,
}

impl Shared {
    async fn phase(&self, wanted: Phase) {
        let mut phase = self.phase.clone();
        // An error means that the process is ending.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }
}

/// Accepts edges until the aggregator stops, then waits until their connections are closed.
pub(crate) async fn serve(endpoint: Endpoint, shared: Shared, certificates: Certificates) {
    let handshakes = Handshakes::new(shared.metrics.clone(), shared.connections.clone());
    let trust = certificates.trust();
    // The task ends with this function.
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
                let Some((incoming, slot)) = handshakes.admit(incoming) else { continue };
                let (handshakes, shared) = (Arc::clone(&handshakes), shared.clone());
                let trust = trust.clone();
                connections.spawn(async move {
                    if let Some(connection) = handshakes.complete(incoming, slot).await {
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
