//! The node's side of a drain: readiness fails, then connections are closed, then everything is shipped. The node stays
//! like this until it is stopped: a restart of the process accepts clicks again.

use crate::drain::control::ControlSocket;
use crate::drain::{DrainRequest, Progress, Stage};
use crate::shipper::DrainControl;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// The drain of a node, requested through the control socket.
pub(super) struct Draining {
    requests: watch::Receiver<Option<DrainRequest>>,
    progress: watch::Sender<Progress>,
    shipper: DrainControl,
    /// Whether readiness fails because of the drain.
    is_draining: Arc<AtomicBool>,
}

impl Draining {
    /// Listens for requests in `data_dir`. Without the socket the edge serves, but can't be drained while it runs.
    pub(super) fn listen(data_dir: &Path, shipper: DrainControl) -> Self {
        let (request, requests) = watch::channel(None);
        let progress = watch::Sender::new(Progress::default());
        match ControlSocket::bind(data_dir) {
            Ok(socket) => drop(spawn_local(socket.serve(request, progress.subscribe()))),
            Err(error) => tracing::warn!(
                directory = %data_dir.display(),
                %error,
                "failed to create control.sock; to drain this edge, stop it and run `edge-tracker drain`"
            ),
        }
        Self {
            requests,
            progress,
            shipper,
            is_draining: Arc::default(),
        }
    }

    /// True once the node is draining.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.is_draining.clone()
    }

    /// Returns when the node must stop accepting clicks; true for a drain, false for a `signal` to stop.
    pub(super) async fn accept_until<S>(&mut self, mut signal: Pin<&mut S>) -> io::Result<bool>
    where
        S: Future<Output = io::Result<()>>,
    {
        let request = tokio::select! {
            biased;
            signalled = &mut signal => return signalled.map(|()| false),
            Ok(request) = self.requests.wait_for(Option::is_some) => *request,
        };
        let delay = request.map(DrainRequest::delay).unwrap_or_default();
        tracing::info!(
            ?delay,
            "draining; not ready any more, and clicks are accepted for the delay"
        );
        self.is_draining.store(true, Ordering::Relaxed);
        self.progress.send_replace(Progress::at(Stage::Leaving));
        if let Ok(signalled) = timeout(delay, signal).await {
            return signalled.map(|()| false);
        }
        tracing::info!("draining; no connection is accepted any more");
        self.progress.send_replace(Progress::at(Stage::Closing));
        Ok(true)
    }

    /// Ships everything and then waits for the `signal` to stop. No event may be accepted any more.
    pub(super) async fn ship_until<S>(&self, mut signal: Pin<&mut S>) -> io::Result<()>
    where
        S: Future<Output = io::Result<()>>,
    {
        self.shipper.request();
        let mut remaining = self.shipper.remaining();
        loop {
            tokio::select! {
                biased;
                signalled = &mut signal => return signalled,
                Ok(()) = remaining.changed() => {}
            }
            let progress = remaining.borrow_and_update().as_ref().map(Progress::from);
            let Some(progress) = progress else { continue };
            let is_drained = progress.stage == Stage::Drained;
            if is_drained && self.progress.borrow().stage != Stage::Drained {
                tracing::info!("drained; the aggregator has acknowledged every event");
            }
            self.progress.send_replace(progress);
        }
    }
}
