//! Starts the aggregator's tasks in order, and stops them in reverse order.

use crate::admin_api;
use crate::aggregator::Aggregator;
use crate::attribution::Attributor;
use crate::configuration::{ConfigFeed, ConfigMetrics, Configuration};
use crate::fatal::FatalError;
use crate::fleet::Fleet;
use crate::health::Health;
use crate::ingest::{self, Certificates};
use crate::outgoing::PostbackDispatcher;
use crate::phase::Phase;
use crate::set_aside;
use crate::settings::Settings;
use crate::start_error::StartError;
use crate::store::{self, holds_state};
use crate::store_watch::StoreWatch;
use daemon::state_directory::StateDirectory;
use domain::NodeId;
use event_shipping::tls::{self, IdentityFiles, Role, Subject, TlsError};
use prometheus::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::Disk;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use trusted_clock::TrustedClock;

/// The limit of each: inserting the block in flight, ending postbacks, and closing connections.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const BUILD: &str = concat!("aggregator ", env!("CARGO_PKG_VERSION"));
/// The data directory: spool, quarantine, visitor salt.
const DATA_DIRECTORY: StateDirectory = StateDirectory {
    kind: "aggregator",
    newest_format: 1,
    build: BUILD,
};
/// The store's directory: `reports`, and with SQLite the store. The tables have versions of their own.
const STORE_DIRECTORY: StateDirectory = StateDirectory {
    kind: "aggregator-store",
    ..DATA_DIRECTORY
};

/// A running aggregator.
#[derive(Debug)]
pub struct AggregatorHandle {
    listening: SocketAddr,
    admin: SocketAddr,
    phase: watch::Sender<Phase>,
    /// `None` once the task has ended.
    pipeline: Option<JoinHandle<Result<(), FatalError>>>,
    dispatcher: Option<JoinHandle<()>>,
    attributor: JoinHandle<()>,
    ingest: JoinHandle<()>,
    retention: JoinHandle<()>,
}

/// The state directories, and where they are.
pub(crate) fn state_directories(settings: &Settings) -> [(StateDirectory, PathBuf); 2] {
    [
        (DATA_DIRECTORY, settings.data_dir.clone()),
        (STORE_DIRECTORY, settings.store_dir()),
    ]
}

/// Starts on the present tokio runtime, and returns when edges can connect. ClickHouse may be unavailable.
///
/// # Errors
/// When the data directory, the certificates or a port can't be used.
pub async fn start(settings: Settings) -> Result<AggregatorHandle, StartError> {
    daemon::private::restrict_directory(&settings.data_dir);
    for (directory, dir) in state_directories(&settings) {
        directory.open(&dir, None)?;
    }
    let registry = Registry::new();
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    daemon::process_metrics::register(&registry, name, version)?;
    require_one_store(&settings).await?;
    let retention = set_aside::retention(&settings, &registry)?;
    let mut aggregator = Aggregator::open(Disk, &settings, &registry)?;
    let clock = Arc::clone(&aggregator.clock);
    let fleet = Arc::new(Fleet::open(&settings, Arc::clone(&clock))?);
    aggregator.shared.fleet = Some(Arc::clone(&fleet));
    let feed = control_plane(&settings, Arc::clone(&clock), &registry)?;
    aggregator.shared.configuration = feed.as_ref().map(|feed| feed.configuration.clone());
    let (dir, development) = (&settings.tls.dir, settings.tls.development);
    tls::open(dir, &Subject::Aggregator, development)?;
    let files = IdentityFiles::of(&settings.tls.dir, Role::Aggregator);
    let (certificates, identity) =
        Certificates::load(files, aggregator.shared.connections.clone())?;
    let listen = |what, addr| move |cause| StartError::Listen { what, addr, cause };
    let endpoint = identity
        .listen(settings.listen)
        .map_err(|error| match error {
            TlsError::Listen { addr, cause } => listen("listen, UDP", addr)(cause),
            other => other.into(),
        })?;
    let listening = endpoint
        .local_addr()
        .map_err(listen("listen, UDP", settings.listen))?;
    let health = Arc::clone(&aggregator.health);
    let dispatcher = PostbackDispatcher::new(
        &settings,
        aggregator.conversion_store(),
        Arc::clone(&clock),
        &registry,
    )?;
    let attributor = Attributor::new(
        settings.clickhouse.clone(),
        aggregator.conversion_store(),
        &registry,
    )?;
    let conversion_store = aggregator.conversion_store();
    let store_watch = StoreWatch::new(
        aggregator.conversion_store(),
        Arc::clone(&aggregator.health),
        &registry,
    )?;
    let admin = daemon::admin::serve(
        settings.admin_listen,
        registry,
        move || match faults(&clock, &health) {
            faults if faults.is_empty() => Ok(()),
            faults => Err(faults.join("\nnot ready: ")),
        },
        move |request| admin_api::page(&conversion_store, request),
    )
    .await
    .map_err(listen("admin_listen", settings.admin_listen))?;
    let phase = aggregator.phase.clone();
    let retention = tokio::spawn(retention.run());
    let dispatcher = dispatcher.map(|dispatcher| tokio::spawn(dispatcher.run(phase.subscribe())));
    tokio::spawn(fleet.watch(aggregator.shared.metrics.clone(), phase.subscribe()));
    let attributor = tokio::spawn(attributor.run(phase.subscribe()));
    tokio::spawn(store_watch.run(phase.subscribe()));
    if let Some(feed) = feed {
        tokio::spawn(feed.run(phase.subscribe()));
    }
    let ingest = tokio::spawn(ingest::serve(
        endpoint,
        aggregator.shared.clone(),
        certificates,
    ));
    let pipeline = Some(tokio::spawn(aggregator.serve(settings.clickhouse)));
    Ok(AggregatorHandle {
        listening,
        admin,
        phase,
        pipeline,
        dispatcher,
        attributor,
        ingest,
        retention,
    })
}

/// The catalog and its publication to edges, if this aggregator serves the control plane.
fn control_plane(
    settings: &Settings,
    clock: Arc<TrustedClock>,
    registry: &Registry,
) -> Result<Option<ConfigFeed>, StartError> {
    let Some(control_plane) = &settings.control_plane else {
        return Ok(None);
    };
    let metrics = ConfigMetrics::new(registry)?;
    let canary = control_plane.canary.map(|node| NodeId(node.get()));
    let configuration = Configuration::new(canary, metrics);
    Ok(Some(ConfigFeed::new(
        store::location(settings),
        configuration,
        clock,
    )))
}

/// Refuses to start with PostgreSQL while a file of SQLite still holds state: its conversions, due postbacks and tiers
/// would be ignored silently.
pub(crate) async fn require_one_store(settings: &Settings) -> Result<(), StartError> {
    let file = settings.store_file();
    if settings.store.url.is_none() || !file.exists() {
        return Ok(());
    }
    let unreadable = |error| StartError::Data(format!("{}: {error}", file.display()));
    match holds_state(&file).await.map_err(unreadable)? {
        true => Err(StartError::StoreLeftBehind(file)),
        false => Ok(()),
    }
}

/// All reasons why the aggregator is not ready.
fn faults(clock: &TrustedClock, health: &Health) -> Vec<String> {
    let clock = clock.problem().map(|problem| format!("clock: {problem}"));
    clock.into_iter().chain(health.faults()).collect()
}

impl AggregatorHandle {
    /// The address that edges connect to.
    #[must_use]
    pub const fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// The address of the admin port.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Waits for an error that ends the aggregator.
    pub async fn failed(&mut self) -> FatalError {
        if let Some(pipeline) = &mut self.pipeline
            && let Ok(Err(error)) = pipeline.await
        {
            self.pipeline = None;
            return error;
        }
        std::future::pending().await
    }

    /// Stops reading, lets the block in flight end within some seconds, acknowledges inserted events, and closes
    /// connections. Edges send all other events again.
    pub async fn stop(mut self) {
        self.phase.send_replace(Phase::Draining);
        if let Some(pipeline) = &mut self.pipeline
            && timeout(DRAIN_TIMEOUT, &mut *pipeline).await.is_err()
        {
            tracing::warn!(
                "failed to insert the block in flight in time; it will be inserted after the next start"
            );
            pipeline.abort();
        }
        if let Some(dispatcher) = &mut self.dispatcher
            && timeout(DRAIN_TIMEOUT, &mut *dispatcher).await.is_err()
        {
            dispatcher.abort();
        }
        self.phase.send_replace(Phase::Closing);
        if timeout(DRAIN_TIMEOUT, &mut self.ingest).await.is_err() {
            self.ingest.abort();
        }
    }
}

impl Drop for AggregatorHandle {
    fn drop(&mut self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.abort();
        }
        self.ingest.abort();
        self.attributor.abort();
        self.retention.abort();
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.abort();
        }
    }
}
