//! A model database that accepts blocks as ClickHouse does, and fails before, during or after an insert.

use crate::rows::{self, Row};
use aggregator::{
    Columns, Database, EventPlace, History, KnownCheck, KnownConversion, Page, RecordedCounts,
    SinkError, SpoolClaim, Tables,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use storage::model::Random;
use tokio::time::sleep;

/// ClickHouse writes one part per partition of a block and deduplicates each part separately.
const PARTITIONS: u64 = 2;

/// Current faults of the database.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DatabaseFaults {
    /// All calls fail.
    pub(crate) is_down: bool,
    /// Percentage of failing inserts; each fails in one of the possible ways.
    pub(crate) failure_percent: u64,
    /// Maximum duration of an insert.
    pub(crate) max_delay: Duration,
}

/// Counts of inserts by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inserts {
    pub(crate) accepted: u64,
    pub(crate) deduplicated: u64,
    pub(crate) failed_before: u64,
    pub(crate) failed_midway: u64,
    pub(crate) failed_after: u64,
    pub(crate) late: u64,
}

#[derive(Debug)]
struct DatabaseState {
    random: Random,
    faults: DatabaseFaults,
    /// The first block inserted with each token, by token and table.
    tokens: BTreeMap<(String, String), Vec<u8>>,
    parts: BTreeSet<(String, String, u64)>,
    /// Rows by `external_id`.
    rows: BTreeMap<Vec<u8>, Vec<Row>>,
    inserts: Inserts,
    claim: Option<SpoolClaim>,
}

/// A database in memory; clones share its state.
#[derive(Debug, Clone)]
pub(crate) struct Model(Arc<Mutex<DatabaseState>>);

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(DatabaseState {
            random: Random::new(seed),
            faults: DatabaseFaults::default(),
            tokens: BTreeMap::new(),
            parts: BTreeSet::new(),
            rows: BTreeMap::new(),
            inserts: Inserts::default(),
            claim: None,
        })))
    }

    pub(crate) fn set(&self, faults: DatabaseFaults) {
        self.lock().faults = faults;
    }

    pub(crate) fn inserts(&self) -> Inserts {
        self.lock().inserts
    }

    /// Calls `read` with the rows of all tables, by `external_id`.
    pub(crate) fn with_rows<T>(&self, read: impl FnOnce(&BTreeMap<Vec<u8>, Vec<Row>>) -> T) -> T {
        read(&self.lock().rows)
    }

    fn lock(&self) -> MutexGuard<'_, DatabaseState> {
        self.0.lock().expect("no other task panicked")
    }
}

impl DatabaseState {
    fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.random.below(limit.as_micros() as u64 + 1))
    }

    /// Stores the first `partitions` partitions of the block.
    fn store(&mut self, table: &str, token: &str, block: &[u8], partitions: u64) {
        let name = (token.to_owned(), table.to_owned());
        let named = self.tokens.entry(name).or_insert_with(|| block.to_vec());
        assert!(
            named == block,
            "a deduplication token was reused for another block"
        );
        let rows = rows::read(block);
        for partition in 0..partitions {
            let part = (token.to_owned(), table.to_owned(), partition);
            if !self.parts.insert(part) {
                self.inserts.deduplicated += 1;
                continue;
            }
            for row in rows.iter().filter(|row| partition_of(row) == partition) {
                let external_id = row["external_id"].clone();
                self.rows.entry(external_id).or_default().push(row.clone());
            }
        }
        self.inserts.accepted += 1;
    }
}

fn partition_of(row: &Row) -> u64 {
    u64::from(row["seq"][0]) % PARTITIONS
}

impl Database for Model {
    type Tables = Self;

    async fn connect(&self) -> Result<Self, SinkError> {
        sleep(Duration::from_millis(1)).await;
        if self.lock().faults.is_down {
            return Err(failure());
        }
        Ok(self.clone())
    }
}

/// There are no earlier reports.
impl History for Model {
    async fn latest_claim(&self, _: &str) -> Result<Option<SpoolClaim>, SinkError> {
        let state = self.lock();
        if state.faults.is_down {
            return Err(failure());
        }
        Ok(state.claim)
    }

    async fn claim(&self, _: &str, claim: SpoolClaim) -> Result<(), SinkError> {
        let mut state = self.lock();
        if state.faults.is_down {
            return Err(failure());
        }
        state.claim = Some(claim);
        Ok(())
    }

    async fn recorded(&self) -> Result<RecordedCounts, SinkError> {
        Ok(RecordedCounts::default())
    }

    async fn stored(&self, _: &[EventPlace]) -> Result<BTreeSet<EventPlace>, SinkError> {
        Ok(BTreeSet::new())
    }

    async fn conversions(&self, _: Page<KnownConversion>) -> Result<(), SinkError> {
        Ok(())
    }

    async fn checks(&self, _: Page<KnownCheck>) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Tables for Model {
    async fn insert(&self, table: &str, token: &str, block: &Columns) -> Result<(), SinkError> {
        let block = block.parts.concat();
        let (pause, failure_percent, variant) = {
            let mut state = self.lock();
            let max_delay = state.faults.max_delay;
            let pause = state.below(max_delay);
            let failure_percent = state.random.below(100) < state.faults.failure_percent;
            (pause, failure_percent, state.random.below(4))
        };
        sleep(pause).await;
        let mut state = self.lock();
        if state.faults.is_down {
            return Err(failure());
        }
        match (failure_percent, variant) {
            (false, _) => {
                state.store(table, token, &block, PARTITIONS);
                return Ok(());
            }
            (true, 0) => state.inserts.failed_before += 1,
            (true, 1) => {
                state.store(table, token, &block, 1);
                state.inserts.failed_midway += 1;
            }
            (true, 2) => {
                state.store(table, token, &block, PARTITIONS);
                state.inserts.failed_after += 1;
            }
            (true, _) => {
                // The insert continues although its client has given up.
                state.inserts.late += 1;
                let delay = state.below(Duration::from_secs(8));
                let (model, table, token) = (self.clone(), table.to_owned(), token.to_owned());
                tokio::spawn(async move {
                    sleep(delay).await;
                    model.lock().store(&table, &token, &block, PARTITIONS);
                });
            }
        }
        Err(failure())
    }
}

fn failure() -> SinkError {
    SinkError::ClickHouse("simulated failure".to_owned())
}
