//! The epoch of a store. An empty store that replaces another one is first rebuilt from ClickHouse, and one that was
//! restored from a copy is brought up to date.

use super::rebuild::{self, Rebuilt};
use super::{ConversionStore, ConversionStoreError, within};
use crate::history::{History, KnownCheck, KnownConversion, Recorded};
use crate::sink_error::SinkError;
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::future::Future;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::try_join;

/// The maximum number of pages of rows in transit from ClickHouse.
const PAGES: usize = 2;

/// An edge's clock may be this far ahead of ours, in microseconds.
const CLOCK_LEAD_MICROS: u64 = 3_600 * 1_000_000;

/// Low bits of an epoch that are random: two stores made in the same moment differ.
const RANDOM_BITS: u32 = 12;

/// Whether an empty store may be used although ClickHouse has reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// It may not: it may be empty by mistake.
    Refused,
    /// It may, at an operator's request: it replaces one that was lost.
    Asked,
}

typed_row! {
    /// The epoch of a store.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Epoch {
        /// Microseconds since 1970 when it began, or more.
        pub(crate) number: u64,
        /// Whether ClickHouse had reports that earlier stores evaluated.
        follows: bool,
    }
}

/// A store that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Established {
    pub(crate) epoch: Epoch,
    /// What was taken over from ClickHouse now, if that was necessary.
    pub(crate) rebuilt: Option<Rebuilt>,
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
    /// ClickHouse must say what earlier stores evaluated.
    #[error("ClickHouse can't say what earlier stores evaluated: {0}")]
    History(#[from] SinkError),
    /// The store is empty and ClickHouse is not. Trying again changes nothing.
    #[error(
        "the store is empty, but ClickHouse has {} revisions of conversions and {} identity checks; if the store \
         was lost, restore a copy with `aggregator restore` or make it again from ClickHouse with `aggregator \
         rebuild-store`; if it lies elsewhere, correct store.dir or store.url",
        .0.conversions, .0.checks
    )]
    Empty(Recorded),
}

impl ConversionStore {
    /// Ensures that the store continues what ClickHouse has, and returns its epoch. After the first time it costs
    /// nothing.
    pub(crate) async fn establish(
        &self,
        history: &impl History,
        rebuild: Rebuild,
    ) -> Result<Established, EstablishError> {
        if let Some(epoch) = self.epoch.get() {
            return Ok(Established {
                epoch: *epoch,
                rebuilt: None,
            });
        }
        let established = match within(self.recorded_epoch()).await? {
            Some(epoch) if epoch.number > 0 => Established {
                epoch,
                rebuilt: None,
            },
            marked => {
                let recorded = history.recorded().await?;
                let is_empty = recorded.conversions == 0 && recorded.checks == 0;
                if marked.is_none() && !is_empty && rebuild == Rebuild::Refused {
                    return Err(EstablishError::Empty(recorded));
                }
                self.begin_epoch(history, recorded).await?
            }
        };
        // Another task may have been faster, with the same.
        let _ = self.epoch.set(established.epoch);
        Ok(established)
    }

    /// Has the store brought up to date from ClickHouse before it is used again.
    pub(crate) async fn mark_for_rebuild(&self) -> Result<(), ConversionStoreError> {
        self.execute(Statement::new(
            "INSERT INTO store_epoch (id, epoch, follows) VALUES (1, 0, 1) \
             ON CONFLICT (id) DO UPDATE SET epoch = 0",
        ))
        .await?;
        Ok(())
    }

    /// The epoch in the store: 0 when it is to be rebuilt, none when it was never used.
    pub(crate) async fn recorded_epoch(&self) -> Result<Option<Epoch>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        epoch_of(&mut tx).await
    }

    async fn begin_epoch(
        &self,
        history: &impl History,
        recorded: Recorded,
    ) -> Result<Established, EstablishError> {
        let mut tx = within(self.begin()).await?;
        if let Some(epoch) = within(lock(&mut tx)).await? {
            return Ok(Established {
                epoch,
                rebuilt: None,
            });
        }
        let now = Micros::now();
        let rebuilt = if recorded == Recorded::default() {
            None
        } else {
            Some(rebuild_from(&mut tx, history, now, self.announces).await?)
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
            "a new epoch of the store began"
        );
        Ok(Established { epoch, rebuilt })
    }
}

/// Above every earlier epoch, whatever the clock says.
fn next_epoch(now: Micros, highest: u64) -> u64 {
    let random = storage::Storage::random(&storage::Disk).unwrap_or(now.0);
    let mask = (1 << RANDOM_BITS) - 1;
    let by_clock = (now.0 & !mask) | (random & mask);
    by_clock.max(highest.saturating_add(1)).min(i64::MAX as u64)
}

/// Locks the row until the transaction ends: two aggregators with one store must not both begin an epoch. Gives
/// the epoch that another one has begun.
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
    announces: bool,
) -> Result<Rebuilt, EstablishError> {
    let mut rebuilt = Rebuilt::default();
    let (pages, mut received) = mpsc::channel::<Vec<KnownConversion>>(PAGES);
    let apply = async {
        while let Some(page) = received.recv().await {
            for known in &page {
                within(rebuild::conversion(tx, known, now, announces, &mut rebuilt)).await?;
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
