//! The epoch of a store, which distinguishes it from the stores that it replaces. An empty store is first rebuilt from
//! ClickHouse, and a store that was restored from a copy is updated from it.

use super::rebuild::{self, RebuildSummary};
use super::{ConversionStore, ConversionStoreError, within};
use crate::history::{History, KnownCheck, KnownConversion, RecordedCounts};
use crate::sink_error::SinkError;
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::future::Future;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::try_join;

/// The maximum number of pages of rows in transit from ClickHouse.
const PAGES: usize = 2;

/// The maximum lead of an edge's clock over the aggregator's.
const CLOCK_LEAD_MICROS: u64 = 3_600 * 1_000_000;

/// Low bits of an epoch that are random, so that two stores created at the same time differ.
const RANDOM_BITS: u32 = 12;

/// Whether an empty store may be used although ClickHouse has reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// It may not: its location may be wrong.
    Forbidden,
    /// It may, at an operator's request: it replaces a lost one.
    Requested,
}

typed_row! {
    /// The epoch of a store.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Epoch {
        /// At least the microseconds since 1970 at its begin.
        pub(crate) number: u64,
        /// Whether ClickHouse had reports that earlier stores evaluated.
        follows: bool,
    }
}

/// A store that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EstablishedStore {
    pub(crate) epoch: Epoch,
    /// The rows that were just added from ClickHouse, if that was necessary.
    pub(crate) rebuilt: Option<RebuildSummary>,
}

impl Epoch {
    /// Whether an earlier store may have evaluated an event of this time.
    pub(crate) const fn may_follow(self, time: u64) -> bool {
        self.follows && time < self.number.saturating_add(CLOCK_LEAD_MICROS)
    }
}

/// The store can't be used.
#[derive(Debug, Error)]
pub(crate) enum EstablishError {
    #[error(transparent)]
    Store(#[from] ConversionStoreError),
    /// The reports that earlier stores evaluated could not be read from ClickHouse.
    #[error("failed to read the reports of earlier stores from ClickHouse: {0}")]
    History(#[from] SinkError),
    /// The store is empty and ClickHouse is not. Trying again changes nothing.
    #[error(
        "the store is empty, but ClickHouse has {} revisions of conversions and {} identity checks; if the store \
         was lost, restore a copy with `aggregator restore` or rebuild it from ClickHouse with `aggregator \
         rebuild-store`; if it is elsewhere, correct store.dir or store.url",
        .0.conversions, .0.checks
    )]
    Empty(RecordedCounts),
}

impl ConversionStore {
    /// Ensures that the store has all that ClickHouse has, and returns its epoch. Only the first call queries either.
    pub(crate) async fn establish(
        &self,
        history: &impl History,
        rebuild: Rebuild,
    ) -> Result<EstablishedStore, EstablishError> {
        if let Some(epoch) = self.epoch.get() {
            return Ok(EstablishedStore {
                epoch: *epoch,
                rebuilt: None,
            });
        }
        let established = match within(self.recorded_epoch()).await? {
            Some(epoch) if epoch.number > 0 => EstablishedStore {
                epoch,
                rebuilt: None,
            },
            marked => {
                let recorded = history.recorded().await?;
                let is_empty = recorded.conversions == 0 && recorded.checks == 0;
                if marked.is_none() && !is_empty && rebuild == Rebuild::Forbidden {
                    return Err(EstablishError::Empty(recorded));
                }
                self.begin_epoch(history, recorded).await?
            }
        };
        // Another task may have set the same epoch before.
        let _ = self.epoch.set(established.epoch);
        Ok(established)
    }

    /// Marks the store: before its next use, it is updated from ClickHouse.
    pub(crate) async fn mark_for_rebuild(&self) -> Result<(), ConversionStoreError> {
        self.execute(Statement::new(
            "INSERT INTO store_epoch (id, epoch, follows) VALUES (1, 0, 1) \
             ON CONFLICT (id) DO UPDATE SET epoch = 0",
        ))
        .await?;
        Ok(())
    }

    /// The stored epoch: 0 if the store must be rebuilt, none if it was never used.
    pub(crate) async fn recorded_epoch(&self) -> Result<Option<Epoch>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        epoch_of(&mut tx).await
    }

    async fn begin_epoch(
        &self,
        history: &impl History,
        recorded: RecordedCounts,
    ) -> Result<EstablishedStore, EstablishError> {
        let mut tx = within(self.begin()).await?;
        if let Some(epoch) = within(lock(&mut tx)).await? {
            return Ok(EstablishedStore {
                epoch,
                rebuilt: None,
            });
        }
        let now = Micros::now();
        let rebuilt = if recorded == RecordedCounts::default() {
            None
        } else {
            Some(rebuild_from(&mut tx, history, now, self.notifies_affiliates).await?)
        };
        let epoch = Epoch {
            number: next_epoch(now, recorded.highest_epoch),
            follows: rebuilt.is_some(),
        };
        within(set(&mut tx, epoch)).await?;
        within(tx.commit()).await?;
        tracing::info!(
            epoch = epoch.number,
            ?rebuilt,
            "began a new epoch of the store"
        );
        Ok(EstablishedStore { epoch, rebuilt })
    }
}

/// An epoch above every earlier one, also when the clock is behind.
fn next_epoch(now: Micros, highest: u64) -> u64 {
    let random = storage::Storage::random(&storage::Disk).unwrap_or(now.0);
    let mask = (1 << RANDOM_BITS) - 1;
    let by_clock = (now.0 & !mask) | (random & mask);
    by_clock.max(highest.saturating_add(1)).min(i64::MAX as u64)
}

/// Locks the row until the transaction ends: two aggregators with one store must not both begin an epoch. Returns the
/// epoch that the other one began, if it did.
async fn lock(tx: &mut Transaction) -> Result<Option<Epoch>, ConversionStoreError> {
    tx.execute(Statement::new(
        "INSERT INTO store_epoch (id, epoch, follows) VALUES (1, 0, 0) ON CONFLICT (id) DO UPDATE SET id = excluded.id",
    ))
    .await?;
    Ok(epoch_of(tx).await?.filter(|epoch| epoch.number > 0))
}

async fn epoch_of(tx: &mut Transaction) -> Result<Option<Epoch>, ConversionStoreError> {
    let select = Statement::new("SELECT epoch AS number, follows FROM store_epoch");
    Ok(tx.fetch_optional(select).await?)
}

async fn set(tx: &mut Transaction, epoch: Epoch) -> Result<(), ConversionStoreError> {
    let update = Statement::new("UPDATE store_epoch SET epoch = $1, follows = $2");
    tx.execute(update.bind(epoch.number).bind(epoch.follows))
        .await?;
    Ok(())
}

async fn rebuild_from(
    tx: &mut Transaction,
    history: &impl History,
    now: Micros,
    notifies_affiliates: bool,
) -> Result<RebuildSummary, EstablishError> {
    let mut rebuilt = RebuildSummary::default();
    let (pages, mut received) = mpsc::channel::<Vec<KnownConversion>>(PAGES);
    let apply = async {
        while let Some(page) = received.recv().await {
            for known in &page {
                within(rebuild::conversion(
                    tx,
                    known,
                    now,
                    notifies_affiliates,
                    &mut rebuilt,
                ))
                .await?;
            }
        }
        Ok(())
    };
    both(history.conversions(pages), apply).await?;
    let (pages, mut received) = mpsc::channel::<Vec<KnownCheck>>(PAGES);
    let apply = async {
        while let Some(page) = received.recv().await {
            for known in &page {
                within(rebuild::check(tx, known, &mut rebuilt)).await?;
            }
        }
        Ok(())
    };
    both(history.checks(pages), apply).await?;
    Ok(rebuilt)
}

async fn both(
    read: impl Future<Output = Result<(), SinkError>>,
    apply: impl Future<Output = Result<(), ConversionStoreError>>,
) -> Result<(), EstablishError> {
    let read = async { read.await.map_err(EstablishError::from) };
    let apply = async { apply.await.map_err(EstablishError::from) };
    try_join!(read, apply).map(drop)
}
