//! A database that takes blocks as ClickHouse does, and fails before, while and after it does.

use crate::rows::{self, Row};
use aggregator::{
    Columns, Database, EventPlace, History, KnownCheck, KnownConversion, Page, Recorded, SinkError,
    SpoolClaim, Tables,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use storage::model::Random;
use tokio::time::sleep;

/// ClickHouse makes a part for each partition of a block, and recognises each by itself.
const PARTITIONS: u64 = 2;

/// How the database is at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mood {
    /// It does not answer at all.
    pub(crate) down: bool,
    /// How many of a hundred inserts go wrong, each in one of the ways there are.
    pub(crate) failing: u64,
    /// An insert takes up to so long.
    pub(crate) slow: Duration,
}

/// What happened to inserts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inserts {
    pub(crate) taken: u64,
    pub(crate) repeated: u64,
    pub(crate) failed_before: u64,
    pub(crate) failed_amid: u64,
    pub(crate) failed_after: u64,
    pub(crate) late: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    mood: Mood,
    /// What each token of a table named first.
    tokens: BTreeMap<(String, String), Vec<u8>>,
    parts: BTreeSet<(String, String, u64)>,
    /// By `external_id`.
    rows: BTreeMap<Vec<u8>, Vec<Row>>,
    inserts: Inserts,
    claim: Option<SpoolClaim>,
}

/// A database in memory; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Model(Arc<Mutex<State>>);

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            mood: Mood::default(),
            tokens: BTreeMap::new(),
            parts: BTreeSet::new(),
            rows: BTreeMap::new(),
            inserts: Inserts::default(),
            claim: None,
        })))
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    pub(crate) fn inserts(&self) -> Inserts {
        self.lock().inserts
    }

    /// The rows of all tables, by `external_id`.
    pub(crate) fn with_rows<T>(&self, look: impl FnOnce(&BTreeMap<Vec<u8>, Vec<Row>>) -> T) -> T {
        look(&self.lock().rows)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics meanwhile")
    }
}

impl State {
    fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.random.below(limit.as_micros() as u64 + 1))
    }

    /// Takes the first `partitions` of the block.
    fn take(&mut self, table: &str, token: &str, block: &[u8], partitions: u64) {
        let name = (token.to_owned(), table.to_owned());
        let named = self.tokens.entry(name).or_insert_with(|| block.to_vec());
        assert!(named == block, "a token names other rows than before");
        let rows = rows::read(block);
        for partition in 0..partitions {
            let part = (token.to_owned(), table.to_owned(), partition);
            if !self.parts.insert(part) {
                self.inserts.repeated += 1;
                continue;
            }
            for row in rows.iter().filter(|row| partition_of(row) == partition) {
                let by = row["external_id"].clone();
                self.rows.entry(by).or_default().push(row.clone());
            }
        }
        self.inserts.taken += 1;
    }
}

fn partition_of(row: &Row) -> u64 {
    u64::from(row["seq"][0]) % PARTITIONS
}

impl Database for Model {
    type Tables = Self;

    async fn connect(&self) -> Result<Self, SinkError> {
        sleep(Duration::from_millis(1)).await;
        if self.lock().mood.down {
            return Err(failed());
        }
        Ok(self.clone())
    }
}

/// No report was ever made here.
impl History for Model {
    async fn latest_claim(&self, _: &str) -> Result<Option<SpoolClaim>, SinkError> {
        let state = self.lock();
        if state.mood.down {
            return Err(failed());
        }
        Ok(state.claim)
    }

    async fn claim(&self, _: &str, claim: SpoolClaim) -> Result<(), SinkError> {
        let mut state = self.lock();
        if state.mood.down {
            return Err(failed());
        }
        state.claim = Some(claim);
        Ok(())
    }

    async fn recorded(&self) -> Result<Recorded, SinkError> {
        Ok(Recorded::default())
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
        let (pause, failing, way) = {
            let mut state = self.lock();
            let slow = state.mood.slow;
            let pause = state.below(slow);
            let failing = state.random.below(100) < state.mood.failing;
            (pause, failing, state.random.below(4))
        };
        sleep(pause).await;
        let mut state = self.lock();
        if state.mood.down {
            return Err(failed());
        }
        match (failing, way) {
            (false, _) => {
                state.take(table, token, &block, PARTITIONS);
                return Ok(());
            }
            (true, 0) => state.inserts.failed_before += 1,
            (true, 1) => {
                state.take(table, token, &block, 1);
                state.inserts.failed_amid += 1;
            }
            (true, 2) => {
                state.take(table, token, &block, PARTITIONS);
                state.inserts.failed_after += 1;
            }
            (true, _) => {
                // It works on, though nobody waits for it any more.
                state.inserts.late += 1;
                let delay = state.below(Duration::from_secs(8));
                let (model, table, token) = (self.clone(), table.to_owned(), token.to_owned());
                tokio::spawn(async move {
                    sleep(delay).await;
                    model.lock().take(&table, &token, &block, PARTITIONS);
                });
            }
        }
        Err(failed())
    }
}

fn failed() -> SinkError {
    SinkError::ClickHouse("it failed".to_owned())
}
