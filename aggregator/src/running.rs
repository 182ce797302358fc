//! The aggregator as a whole: starting its parts in order, and stopping them in the other.

use crate::blocks::{Recovered, Store};
use crate::ingest::{self, Phase, Shared};
use crate::intake::{BlockSize, Bounds, Intake};
use crate::metrics::Metrics;
use crate::pipeline::{Health, Pipeline};
use crate::settings::Settings;
use crate::sink::Quarantine;
use event_shipping::tls::{self, Role};
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The block in flight, and the goodbyes after it, may each take this long.
const DRAIN: Duration = Duration::from_secs(5);

/// The aggregator can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder can't be used.
    #[error("[data_dir] {0}")]
    Data(String),
    /// The certificates or the port for edges can't be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A port can't be opened.
    #[error("{what} can't listen on {addr}: {cause}")]
    Listen {
        /// Which setting.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// Metrics can't be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// An aggregator at work.
#[derive(Debug)]
pub struct Running {
    listening: SocketAddr,
    admin: SocketAddr,
    phase: watch::Sender<Phase>,
    pipeline: JoinHandle<()>,
    ingest: JoinHandle<()>,
}

/// Starts on the current tokio runtime and returns when edges can connect, ClickHouse or not.
///
/// # Errors
/// When the data folder, the certificates or a port can't be used.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let (store, recovered) =
        Store::open(&settings.data_dir).map_err(|error| StartError::Data(error.to_string()))?;
    report(&recovered, &metrics);
    let identity = tls::load_or_create(&settings.tls.dir, Role::Aggregator)?;
    let listen = |what, addr| move |cause| StartError::Listen { what, addr, cause };
    let endpoint = identity.listen(settings.listen)?;
    let listening = endpoint
        .local_addr()
        .map_err(listen("listen", settings.listen))?;
    let health = Arc::new(Health::starting());
    let ready = Arc::clone(&health);
    let admin = daemon::admin::serve(settings.admin_listen, registry, move || ready.check())
        .await
        .map_err(listen("admin_listen", settings.admin_listen))?;

    let intake = Arc::new(Intake::new(bounds(&settings), &recovered));
    let (phase, watched) = watch::channel(Phase::Serving);
    let pipeline = Pipeline {
        intake: Arc::clone(&intake),
        store: Arc::new(Mutex::new(store)),
        quarantine: Quarantine::new(&settings.data_dir),
        metrics: metrics.clone(),
        health,
        phase: watched.clone(),
    };
    let shared = Shared {
        intake,
        metrics,
        phase: watched,
        max_edges: settings.limits.max_edges.get(),
        edges: Arc::new(AtomicUsize::new(0)),
    };
    let size = block_size(&settings);
    let pipeline = tokio::spawn(pipeline.run(recovered, size, settings.clickhouse));
    let ingest = tokio::spawn(ingest::serve(endpoint, shared));
    Ok(Running {
        listening,
        admin,
        phase,
        pipeline,
        ingest,
    })
}

impl Running {
    /// Where edges connect.
    #[must_use]
    pub const fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Where operators look.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Stops reading, gives the block in flight some seconds, acknowledges what ClickHouse took and
    /// says goodbye. Everything else is sent again by the edges.
    pub async fn stop(mut self) {
        self.phase.send_replace(Phase::Draining);
        if timeout(DRAIN, &mut self.pipeline).await.is_err() {
            tracing::warn!(
                "ClickHouse did not take the block in flight; it is taken after the next start"
            );
            self.pipeline.abort();
        }
        self.phase.send_replace(Phase::Closing);
        if timeout(DRAIN, &mut self.ingest).await.is_err() {
            self.ingest.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pipeline.abort();
        self.ingest.abort();
    }
}

fn report(recovered: &Recovered, metrics: &Metrics) {
    for path in &recovered.set_aside {
        metrics.set_aside.inc();
        tracing::error!(path = %path.display(), "a damaged file was set aside; edges send again what it held");
    }
    tracing::info!(
        lanes = recovered.checkpoint.taken.len(),
        blocks = recovered.blocks.len(),
        "recovered from the data folder"
    );
}

fn bounds(settings: &Settings) -> Bounds {
    Bounds {
        pending_bytes: usize::try_from(settings.limits.pending_bytes.get().0).unwrap_or(usize::MAX),
        lanes: settings.limits.max_lanes.get(),
    }
}

fn block_size(settings: &Settings) -> BlockSize {
    BlockSize {
        rows: settings.blocks.max_rows.get(),
        bytes: usize::try_from(settings.blocks.max_bytes.get().0).unwrap_or(usize::MAX),
        age: settings.blocks.max_age.get().0,
    }
}
