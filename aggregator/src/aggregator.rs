//! The aggregator without open ports: it recovers the state of an earlier run, serves edges over given streams, and
//! runs the pipeline into the database.

use crate::blocks::{DataDirError, Recovered, RecoveredReports, ReportFiles, Spool};
use crate::fair_queue::BlockSize;
use crate::fatal::FatalError;
use crate::health::Health;
use crate::ingest::{self, ConnectionMetrics, ConnectionSlots, ConnectionTable, Shared};
use crate::ingest_queue::{Bounds, IngestQueue};
use crate::lock;
use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::pipeline::{Pipeline, StoreOpening};
use crate::report_queue::{self, ReportQueue};
use crate::settings::Settings;
use crate::sink::{Database, Quarantine};
use crate::start_error::StartError;
use crate::store::{self, ConversionStore};
use crate::verification::Verification;
use domain::Micros;
use event_shipping::LaneBounds;
use prometheus::Registry;
use std::fmt;
use std::sync::{Arc, Mutex};
use storage::Storage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use trusted_clock::{StepTolerance, TrustedClock};

/// An aggregator without open ports: it has no connections yet.
pub struct Aggregator<S: Storage> {
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Arc<TrustedClock>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) shared: Shared,
    pipeline: Pipeline<S>,
    recovered: Recovered,
    size: BlockSize,
    /// Locks of the data directory and the store's directory, held for as long as anything may be written.
    locks: [S::Lock; 2],
}

impl<S: Storage> fmt::Debug for Aggregator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregator").finish_non_exhaustive()
    }
}

/// Serves edges on behalf of an [`Aggregator`].
#[derive(Clone)]
pub struct Edges(Shared);

impl fmt::Debug for Edges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edges").finish_non_exhaustive()
    }
}

impl Edges {
    /// Serves one edge, over a stream in each direction, until it disconnects or is refused. The node number in its
    /// `Hello` is trusted; over QUIC it is compared with the certificate.
    pub async fn converse(
        &self,
        send: impl AsyncWrite + Unpin + Send,
        receive: impl AsyncRead + Unpin + Send,
    ) {
        ingest::converse(send, receive, None, &self.0).await;
    }
}

impl<S: Storage> Aggregator<S> {
    /// Recovers the state that an earlier run left in the data directory.
    ///
    /// # Errors
    /// When the directory can't be used.
    pub fn open(storage: S, settings: &Settings, registry: &Registry) -> Result<Self, StartError> {
        let metrics = Metrics::new(registry)?;
        let locks = [
            lock::lock(&storage, &settings.data_dir)?,
            lock::lock(&storage, &settings.store_dir())?,
        ];
        let unusable = |error: DataDirError| StartError::Data(error.to_string());
        let (spool, recovered) =
            Spool::open(storage.clone(), &settings.spool_dir()).map_err(unusable)?;
        let (report_files, recovered_reports) =
            ReportFiles::open(storage.clone(), &settings.store_dir()).map_err(unusable)?;
        report(&recovered, &recovered_reports, &metrics);
        let reports = Arc::new(ReportQueue::new(
            usize::try_from(settings.limits.pending_report_bytes.get().0).unwrap_or(usize::MAX),
            recovered_reports.pending,
        ));
        report_queue::register(&reports, registry)?;
        let health = Arc::new(Health::starting());
        let clock = TrustedClock::new(StepTolerance::from(&settings.clock), Micros(0));
        let clock = Arc::new(clock);
        let ingest_queue = Arc::new(IngestQueue::new(bounds(settings), &recovered));
        let verification = Verification::open(settings.reports.as_ref(), registry)?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let conversion_store =
            ConversionStore::new(store::location(settings), settings.outgoing.is_some());
        let conversion_store = Arc::new(conversion_store.verifying(verification));
        registry.register(Box::new(conversion_store.place_conflicts().clone()))?;
        let pipeline = Pipeline {
            instance: settings.instance.as_str().into(),
            ingest_queue: Arc::clone(&ingest_queue),
            spool: Arc::new(Mutex::new(spool)),
            report_files,
            reports,
            conversion_store,
            quarantine: Quarantine::new(storage, &settings.data_dir),
            metrics: metrics.clone(),
            health: Arc::clone(&health),
            clock: Arc::clone(&clock),
            phase: watched.clone(),
        };
        let shared = Shared {
            ingest_queue,
            metrics,
            phase: watched,
            slots: ConnectionSlots::new(settings.limits.max_edges.get()),
            table: Arc::new(ConnectionTable::default()),
            connections: ConnectionMetrics::new(registry)?,
            fleet: None,
            configuration: None,
        };
        Ok(Self {
            health,
            clock,
            phase,
            shared,
            pipeline,
            recovered,
            size: block_size(settings),
            locks,
        })
    }

    /// The handle that serves edges.
    #[must_use]
    pub fn edges(&self) -> Edges {
        Edges(self.shared.clone())
    }

    /// The store that evaluates reports and queues postbacks.
    pub(crate) fn conversion_store(&self) -> Arc<ConversionStore> {
        self.pipeline.conversion_store.clone()
    }

    /// Inserts blocks into `database`, those of an earlier run first, until the aggregator stops.
    ///
    /// # Errors
    /// When only an operator can decide how to continue.
    pub async fn run(self, database: impl Database) -> Result<(), FatalError> {
        self.run_with(database, StoreOpening::WithFirstReport).await
    }

    /// As [`Aggregator::run`], but opens the store at the start, not with the first report.
    pub(crate) async fn serve(self, database: impl Database) -> Result<(), FatalError> {
        self.run_with(database, StoreOpening::AtStart).await
    }

    async fn run_with(
        self,
        database: impl Database,
        store: StoreOpening,
    ) -> Result<(), FatalError> {
        let Self {
            pipeline,
            recovered,
            size,
            locks: _locks,
            // Dropping the sender would end every subscription to the phase.
            phase: _phase,
            ..
        } = self;
        pipeline.run(recovered, size, database, store).await
    }
}

fn report(recovered: &Recovered, reports: &RecoveredReports, metrics: &Metrics) {
    for path in &reports.set_aside {
        metrics.set_aside.inc();
        tracing::error!(path = %path.display(), "set aside a damaged report file; edges no longer have its reports");
    }
    for path in &recovered.set_aside {
        metrics.set_aside.inc();
        tracing::error!(path = %path.display(), "set aside a damaged file; edges will send its events again");
    }
    tracing::info!(
        lanes = recovered.checkpoint.taken.len(),
        blocks = recovered.blocks.len(),
        report_files = reports.pending.len(),
        "recovered from the data directory"
    );
}

fn bounds(settings: &Settings) -> Bounds {
    let days = settings.limits.forget_lanes_after.get().0.as_secs();
    Bounds {
        pending_bytes: usize::try_from(settings.limits.pending_bytes.get().0).unwrap_or(usize::MAX),
        lanes: LaneBounds {
            lanes: settings.limits.max_lanes.get(),
            lanes_per_node: settings.limits.max_lanes_per_node.get(),
            forget_after_days: u16::try_from(days.div_ceil(24 * 3_600)).unwrap_or(u16::MAX),
        },
    }
}

fn block_size(settings: &Settings) -> BlockSize {
    BlockSize {
        rows: settings.blocks.max_rows.get(),
        bytes: usize::try_from(settings.blocks.max_bytes.get().0).unwrap_or(usize::MAX),
        age: settings.blocks.max_age.get().0,
    }
}
