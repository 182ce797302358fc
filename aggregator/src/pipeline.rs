//! From waiting batches to rows in ClickHouse. One task builds and decodes the next block, another inserts the block
//! before, strictly in order; a third evaluates reports.

mod reports;

use crate::blocks::{Block, DataDirError, Recovered, ReportFiles, Spool};
use crate::fair_queue::BlockSize;
use crate::fatal::FatalError;
use crate::fence::{self, Decision};
use crate::health::{Dependency, Health};
use crate::history::SpoolClaim;
use crate::ingest_queue::IngestQueue;
use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::report_queue::ReportQueue;
use crate::sink::{BlockDecoder, Columns, Database, PreparedBlock, Quarantine, Tables};
use crate::sink_error::SinkError;
use crate::store::ConversionStore;
use daemon::backoff::Backoff;
use daemon::traces::SPAN_TARGET;
use domain::Micros;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::Storage;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{Instrument as _, trace_span};
use trusted_clock::TrustedClock;

const RETRY: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
/// How often an untrusted clock is read.
const CLOCK_INTERVAL: Duration = Duration::from_millis(200);

/// When the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOpening {
    /// At the start, so that its errors show early.
    AtStart,
    /// With the first report.
    WithFirstReport,
}

/// The state that the tasks share.
#[derive(Clone)]
pub(crate) struct Pipeline<S: Storage> {
    pub(crate) instance: Arc<str>,
    pub(crate) ingest_queue: Arc<IngestQueue>,
    pub(crate) spool: Arc<Mutex<Spool<S>>>,
    pub(crate) report_files: ReportFiles<S>,
    pub(crate) reports: Arc<ReportQueue>,
    pub(crate) conversion_store: Arc<ConversionStore>,
    pub(crate) quarantine: Quarantine<S>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Arc<TrustedClock>,
    pub(crate) phase: watch::Receiver<Phase>,
}

impl<S: Storage> Pipeline<S> {
    /// Inserts the blocks in `recovered`, then new ones, until the aggregator stops and the block in flight is
    /// inserted.
    pub(crate) async fn run(
        self,
        recovered: Recovered,
        size: BlockSize,
        database: impl Database,
        store: StoreOpening,
    ) -> Result<(), FatalError> {
        if !self.has_time().await {
            return Ok(());
        }
        let (ready, blocks) = mpsc::channel(1);
        let tables = OnceCell::new();
        let builder = async {
            self.build(recovered, size, ready).await;
            Ok(())
        };
        let inserter = self.insert(blocks, &database, &tables);
        let evaluation = self.evaluate_while_serving(&database, &tables, store);
        tokio::try_join!(biased; builder, inserter, evaluation).map(drop)
    }

    /// Waits for the first trusted time: without one, times can't be corrected and lanes can't expire. False if the
    /// aggregator stops before.
    async fn has_time(&self) -> bool {
        let mut phase = self.phase.clone();
        while self.clock.read().trusted().is_none() {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return false,
                () = tokio::time::sleep(CLOCK_INTERVAL) => {}
            }
        }
        true
    }

    async fn build(
        &self,
        recovered: Recovered,
        size: BlockSize,
        ready: mpsc::Sender<PreparedBlock>,
    ) {
        let mut decoder = BlockDecoder::default();
        for (token, block) in recovered.blocks {
            let Ok(place) = ready.reserve().await else {
                return;
            };
            let Some(prepared) = self.prepare(&mut decoder, token, block).await else {
                return;
            };
            place.send(prepared);
        }
        let mut phase = self.phase.clone();
        loop {
            let next = async {
                let place = ready.reserve().await.ok()?;
                Some((
                    place,
                    self.ingest_queue
                        .next_entries(size, || self.clock.read().estimate)
                        .await,
                ))
            };
            let (place, entries) = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let number = self.with_spool(|spool| spool.next_number()).await;
            let block = Arc::new(Block { number, entries });
            let token = self.write(&block).await;
            let block = Arc::unwrap_or_clone(block);
            let Some(prepared) = self.prepare(&mut decoder, token, block).await else {
                return;
            };
            place.send(prepared);
        }
    }

    /// Writes a block to disk, retrying until it succeeds: without its file it must not be inserted.
    async fn write(&self, block: &Arc<Block>) -> String {
        self.retry_until_ok(Dependency::Disk, || {
            let block = Arc::clone(block);
            self.with_spool(move |spool| spool.write(&block))
        })
        .await
    }

    /// Decodes a block, and stores its reports separately. `None` if the aggregator stops. After a crash, the block's
    /// file leads to the same step again.
    async fn prepare(
        &self,
        decoder: &mut BlockDecoder,
        token: String,
        block: Block,
    ) -> Option<PreparedBlock> {
        let mut taken = std::mem::take(decoder);
        let (mut prepared, taken) =
            run_blocking::<S, _>(move || (taken.prepare(token, block), taken)).await;
        *decoder = taken;
        for event in &prepared.rejected {
            self.metrics
                .quarantined
                .with_label_values(&[event.reason])
                .inc();
        }
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => None,
            () = self.set_reports_apart(&mut prepared) => Some(prepared),
        }
    }

    async fn insert<D: Database>(
        &self,
        mut blocks: mpsc::Receiver<PreparedBlock>,
        database: &D,
        tables: &OnceCell<D::Tables>,
    ) -> Result<(), FatalError> {
        let mut phase = self.phase.clone();
        let tables = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return Ok(()),
            tables = tables.get_or_try_init(|| self.connect(database)) => tables?,
        };
        while let Some(prepared) = blocks.recv().await {
            for (table, columns) in &prepared.tables {
                self.insert_table(
                    Dependency::ClickHouse,
                    tables,
                    table,
                    &prepared.token,
                    columns,
                )
                .await;
            }
            self.taken(prepared).await;
            if *self.phase.borrow() >= Phase::Draining {
                break;
            }
        }
        Ok(())
    }

    /// Evaluates reports until the aggregator stops. An interrupted evaluation is repeated at the next start.
    async fn evaluate_while_serving<D: Database>(
        &self,
        database: &D,
        tables: &OnceCell<D::Tables>,
        store: StoreOpening,
    ) -> Result<(), FatalError> {
        let mut phase = self.phase.clone();
        let evaluation = async {
            let tables = tables.get_or_try_init(|| self.connect(database)).await?;
            if store == StoreOpening::AtStart {
                self.establish(tables).await?;
            }
            self.evaluate(tables).await
        };
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => Ok(()),
            ended = evaluation => ended,
        }
    }

    async fn connect<D: Database>(&self, database: &D) -> Result<D::Tables, FatalError> {
        let connected = self
            .retry_until_ok(Dependency::ClickHouse, || database.connect())
            .await;
        tracing::info!("connected to ClickHouse; its tables are up to date");
        self.claim(&connected).await?;
        Ok(connected)
    }

    /// Claims the right to insert: no other spool may have taken over.
    async fn claim(&self, tables: &impl Tables) -> Result<(), FatalError> {
        let state = self.with_spool(|spool| spool.spool_state()).await;
        let superseded = match fence::decide(state, self.latest_claim(tables).await) {
            Decision::Keep => return Ok(()),
            Decision::Superseded(by) => by,
            Decision::Claim(generation) => {
                let spool = state.spool;
                let claim = SpoolClaim { generation, spool };
                self.retry_until_ok(Dependency::Disk, || {
                    self.with_spool(move |spool| spool.set_generation(generation))
                })
                .await;
                let made = || tables.claim(&self.instance, claim);
                self.retry_until_ok(Dependency::ClickHouse, made).await;
                // Another spool may have claimed the same generation at the same time.
                match self.latest_claim(tables).await {
                    Some(latest) if latest != claim => latest,
                    _ => {
                        tracing::info!(instance = %self.instance, generation, "spool took over");
                        return Ok(());
                    }
                }
            }
        };
        let spool = self.with_spool(|spool| spool.dir().display().to_string());
        Err(FatalError::Superseded {
            spool: spool.await,
            instance: self.instance.to_string(),
            generation: superseded.generation,
        })
    }

    async fn latest_claim(&self, tables: &impl Tables) -> Option<SpoolClaim> {
        let latest = || tables.latest_claim(&self.instance);
        self.retry_until_ok(Dependency::ClickHouse, latest).await
    }

    async fn insert_table(
        &self,
        dependency: Dependency,
        tables: &impl Tables,
        table: &str,
        token: &str,
        columns: &Columns,
    ) {
        let attempt = async || {
            let begun = Instant::now();
            let done = tables.insert(table, token, columns).await;
            match &done {
                Ok(()) => self
                    .metrics
                    .insert_seconds
                    .observe(begun.elapsed().as_secs_f64()),
                Err(_) => self.metrics.insert_retries.inc(),
            }
            done
        };
        let span = trace_span!(target: SPAN_TARGET, "insert block", table, rows = columns.rows);
        self.retry_until_ok::<_, SinkError, _>(dependency, attempt)
            .instrument(span)
            .await;
        self.metrics
            .rows
            .with_label_values(&[table])
            .inc_by(columns.rows as u64);
    }

    /// Records that ClickHouse has the block: first on disk, then for edges.
    async fn taken(&self, prepared: PreparedBlock) {
        let PreparedBlock {
            token,
            block,
            times,
            rejected,
            ..
        } = prepared;
        self.observe_freshness(&times);
        let rejected = Arc::new(rejected);
        let checkpoint = Arc::new(self.ingest_queue.checkpoint_after(&block));
        let token = Arc::new(token);
        self.retry_until_ok(Dependency::Disk, || {
            let (token, rejected) = (Arc::clone(&token), Arc::clone(&rejected));
            let (quarantine, checkpoint) = (self.quarantine.clone(), Arc::clone(&checkpoint));
            self.with_spool(move |spool| {
                quarantine
                    .keep(&token, &rejected)
                    .map_err(|error| error.to_string())?;
                spool
                    .taken(&token, &checkpoint)
                    .map_err(|error: DataDirError| error.to_string())
            })
        })
        .await;
        self.ingest_queue.block_taken(&block);
        self.metrics.blocks.inc();
        self.metrics.held(self.ingest_queue.held_bytes());
    }

    fn observe_freshness(&self, times: &[u64]) {
        let now = Micros::now().0;
        let freshness = self.metrics.freshness.local();
        for time in times {
            freshness.observe(Duration::from_micros(now.saturating_sub(*time)).as_secs_f64());
        }
    }

    async fn with_spool<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Spool<S>) -> T + Send + 'static,
    ) -> T {
        let spool = Arc::clone(&self.spool);
        run_blocking::<S, _>(move || {
            act(&mut spool
                .lock()
                .expect("no thread panics while it holds the spool"))
        })
        .await
    }

    /// Repeats an attempt until it succeeds, with growing pauses; meanwhile, health shows the error.
    async fn retry_until_ok<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        dependency: Dependency,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        let mut failures = 0;
        loop {
            let outcome = attempt().await;
            if matches!(
                dependency,
                Dependency::ClickHouse | Dependency::ReportTables
            ) {
                self.metrics.clickhouse_up.set(i64::from(outcome.is_ok()));
            }
            match outcome {
                Ok(done) => {
                    self.health.set(dependency, None);
                    return done;
                }
                Err(error) => {
                    failures += 1;
                    let pause = RETRY.pause(failures);
                    tracing::warn!(?dependency, %error, retry_in = ?pause, "dependency is unavailable, retrying");
                    self.health.set(dependency, Some(error.to_string()));
                }
            }
            tokio::time::sleep(RETRY.pause(failures)).await;
        }
    }
}

/// Runs `act` on a blocking thread, unless `S` never blocks.
async fn run_blocking<S: Storage, T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
    if S::IS_BLOCKING {
        let done = spawn_blocking(act).await;
        done.expect("no panic and no cancellation")
    } else {
        act()
    }
}
