//! The QUIC side: accepts edges, one task per connection. What becomes of batches is not known here.

mod connection;
mod refusal;

pub(crate) use connection::converse;

use crate::intake::Intake;
use crate::metrics::Metrics;
use event_shipping::RefuseCode;
use quinn::{Endpoint, Incoming};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Handshakes under way beside the edges connected; above, new ones are turned away unanswered.
const HANDSHAKES: usize = 64;

/// How far shutting down has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Reading and acknowledging.
    Serving,
    /// Acknowledging only.
    Draining,
    /// Saying goodbye.
    Closing,
}

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Metrics,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) max_edges: usize,
    pub(crate) edges: Arc<AtomicUsize>,
}

/// One of the places for edges; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Shared {
    fn place(&self) -> Option<Place> {
        let claimed = self
            .edges
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |edges| {
                (edges < self.max_edges).then_some(edges + 1)
            });
        claimed.ok().map(|_| Place(Arc::clone(&self.edges)))
    }

    async fn phase(&self, wanted: Phase) {
        let mut phase = self.phase.clone();
        // An error means that the whole process is going away.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts edges until the phase is no longer serving, then waits for their goodbyes.
pub(crate) async fn serve(endpoint: Endpoint, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.phase(Phase::Draining) => break,
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => accept(&endpoint, &shared, incoming, &mut connections),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
    endpoint.close(u32::from(RefuseCode::Stopping.number()).into(), b"stopping");
    endpoint.wait_idle().await;
}

fn accept(endpoint: &Endpoint, shared: &Shared, incoming: Incoming, tasks: &mut JoinSet<()>) {
    if endpoint.open_connections() >= shared.max_edges.saturating_add(HANDSHAKES) {
        shared
            .metrics
            .refused
            .with_label_values(&[RefuseCode::TooManyEdges.reason()])
            .inc();
        incoming.refuse();
        return;
    }
    tasks.spawn(connection::run(incoming, shared.clone()));
}
