//! From batches that wait to rows in ClickHouse: one task builds and decodes the next block while
//! another inserts the one before, in order, for as long as it takes.

use crate::blocks::{Block, Recovered, Store, StoreError};
use crate::ingest::Phase;
use crate::intake::{BlockSize, Intake};
use crate::metrics::Metrics;
use crate::report::{Placed, Report};
use crate::sink::{Columns, Database, Prepared, Preparer, Quarantine, SinkError, Tables};
use crate::store::Ledger;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::Storage;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracking_events::Micros;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the aggregator can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The data folder.
    Disk,
    /// The database.
    ClickHouse,
    /// What judges conversions and affiliates.
    Store,
}

/// Why the aggregator is not ready, if it is not.
#[derive(Debug, Default)]
pub(crate) struct Health {
    disk: Mutex<Option<String>>,
    clickhouse: Mutex<Option<String>>,
    store: Mutex<Option<String>>,
}

impl Health {
    pub(crate) fn starting() -> Self {
        let health = Self::default();
        health.set(Need::ClickHouse, Some("it has not answered yet".to_owned()));
        health
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let needs = [
            (Need::Disk, "data_dir"),
            (Need::ClickHouse, "ClickHouse"),
            (Need::Store, "store"),
        ];
        for (need, name) in needs {
            let why = self
                .slot(need)
                .lock()
                .expect("nobody panics while holding it")
                .clone();
            why.map_or(Ok(()), |why| Err(format!("{name}: {why}")))?;
        }
        Ok(())
    }

    fn set(&self, need: Need, why: Option<String>) {
        *self
            .slot(need)
            .lock()
            .expect("nobody panics while holding it") = why;
    }

    const fn slot(&self, need: Need) -> &Mutex<Option<String>> {
        match need {
            Need::Disk => &self.disk,
            Need::ClickHouse => &self.clickhouse,
            Need::Store => &self.store,
        }
    }
}

/// What both tasks need.
#[derive(Clone)]
pub(crate) struct Pipeline<S: Storage> {
    pub(crate) intake: Arc<Intake>,
    pub(crate) store: Arc<Mutex<Store<S>>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) quarantine: Quarantine<S>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Arc<Health>,
    pub(crate) phase: watch::Receiver<Phase>,
}

impl<S: Storage> Pipeline<S> {
    /// Runs until the phase is no longer serving and the block in flight is through. `recovered`
    /// goes first.
    pub(crate) async fn run(self, recovered: Recovered, size: BlockSize, database: impl Database) {
        let (ready, blocks) = mpsc::channel(1);
        let builder = self.clone().build(recovered, size, ready);
        tokio::join!(biased; builder, self.insert(blocks, database));
    }

    async fn build(self, recovered: Recovered, size: BlockSize, ready: mpsc::Sender<Prepared>) {
        let mut preparer = Preparer::default();
        for (token, block) in recovered.blocks {
            let Ok(place) = ready.reserve().await else {
                return;
            };
            let prepared = self.prepare(&mut preparer, token, block).await;
            let Some(prepared) = self.judge(prepared).await else {
                return;
            };
            place.send(prepared);
        }
        let mut phase = self.phase.clone();
        loop {
            let next = async {
                let place = ready.reserve().await.ok()?;
                Some((place, self.intake.next_entries(size).await))
            };
            let (place, entries) = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let number = self.with_store(|store| store.next_number()).await;
            let block = Arc::new(Block { number, entries });
            let token = self.write(&block).await;
            let block = Arc::unwrap_or_clone(block);
            let prepared = self.prepare(&mut preparer, token, block).await;
            let Some(prepared) = self.judge(prepared).await else {
                return;
            };
            place.send(prepared);
        }
    }

    /// Keeps trying to write the block down: without its file it must not be inserted.
    async fn write(&self, block: &Arc<Block>) -> String {
        self.persist(Need::Disk, || {
            let block = Arc::clone(block);
            self.with_store(move |store| store.write(&block))
        })
        .await
    }

    async fn prepare(&self, preparer: &mut Preparer, token: String, block: Block) -> Prepared {
        let mut taken = std::mem::take(preparer);
        let (prepared, taken) = aside::<S, _>(move || (taken.prepare(token, block), taken)).await;
        *preparer = taken;
        for event in &prepared.rejected {
            self.metrics
                .quarantined
                .with_label_values(&[event.reason])
                .inc();
        }
        prepared
    }

    /// Adds the rows of what was reported, once the store has judged it; none when it is time to stop.
    /// The block's file is there already, so after a crash the same reports come here again.
    async fn judge(&self, mut prepared: Prepared) -> Option<Prepared> {
        let reports = std::mem::take(&mut prepared.reports);
        if reports.is_empty() {
            return Some(prepared);
        }
        let placed: Vec<Placed<'_>> = reports.iter().filter_map(Report::read).collect();
        let mut phase = self.phase.clone();
        let verdicts = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return None,
            verdicts = self.persist(Need::Store, || self.ledger.judge(&placed)) => verdicts,
        };
        prepared.add_reports(&placed, &verdicts);
        Some(prepared)
    }

    async fn insert(self, mut blocks: mpsc::Receiver<Prepared>, database: impl Database) {
        let mut phase = self.phase.clone();
        let tables = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
            tables = self.connect(&database) => tables,
        };
        while let Some(prepared) = blocks.recv().await {
            for (table, columns) in &prepared.tables {
                self.insert_table(&tables, table, &prepared.token, columns)
                    .await;
            }
            self.taken(prepared).await;
            if *self.phase.borrow() >= Phase::Draining {
                return;
            }
        }
    }

    async fn connect<D: Database>(&self, database: &D) -> D::Tables {
        let connected = self.persist(Need::ClickHouse, || database.connect()).await;
        tracing::info!("ClickHouse answers and its tables are up to date");
        connected
    }

    async fn insert_table(
        &self,
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
        self.persist::<_, SinkError, _>(Need::ClickHouse, attempt)
            .await;
        self.metrics
            .rows
            .with_label_values(&[table])
            .inc_by(columns.rows as u64);
    }

    /// ClickHouse has the block: first the disk knows, then the edges.
    async fn taken(&self, prepared: Prepared) {
        let Prepared {
            token,
            block,
            times,
            rejected,
            ..
        } = prepared;
        self.observe_freshness(&times);
        let rejected = Arc::new(rejected);
        let checkpoint = Arc::new(self.intake.checkpoint_after(&block));
        let token = Arc::new(token);
        self.persist(Need::Disk, || {
            let (token, rejected) = (Arc::clone(&token), Arc::clone(&rejected));
            let (quarantine, checkpoint) = (self.quarantine.clone(), Arc::clone(&checkpoint));
            self.with_store(move |store| {
                quarantine
                    .keep(&token, &rejected)
                    .map_err(|error| error.to_string())?;
                store
                    .taken(&token, &checkpoint)
                    .map_err(|error: StoreError| error.to_string())
            })
        })
        .await;
        self.intake.block_taken(&block);
        self.metrics.blocks.inc();
        self.metrics.held(self.intake.held_bytes());
    }

    fn observe_freshness(&self, times: &[u64]) {
        let now = Micros::now().0;
        let freshness = self.metrics.freshness.local();
        for time in times {
            freshness.observe(Duration::from_micros(now.saturating_sub(*time)).as_secs_f64());
        }
    }

    async fn with_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Store<S>) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(&self.store);
        aside::<S, _>(move || {
            act(&mut store.lock().expect("nobody panics while holding the store"))
        })
        .await
    }

    /// Does something until it succeeds, pausing longer and longer, and says meanwhile why not.
    async fn persist<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        need: Need,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = attempt().await;
            if need == Need::ClickHouse {
                self.metrics.clickhouse_up.set(i64::from(outcome.is_ok()));
            }
            match outcome {
                Ok(done) => {
                    self.health.set(need, None);
                    return done;
                }
                Err(error) => {
                    tracing::warn!(?need, %error, retry_in = ?pause, "not possible now");
                    self.health.set(need, Some(error.to_string()));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Does what takes a while on a thread for that, unless nothing on `S` ever waits.
async fn aside<S: Storage, T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    if S::WAITS {
        let done = spawn_blocking(act).await;
        done.expect("it does not panic and is not cancelled")
    } else {
        act()
    }
}
