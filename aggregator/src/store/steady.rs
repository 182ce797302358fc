//! The clock of the postback queue: it starts at the time of day, advances by the elapsed time while an aggregator runs,
//! and never follows a step of the system clock. So no step makes a postback expire or delays one that is due.

use super::{ConversionStore, ConversionStoreError};
use domain::Micros;
use sql_store::{Statement, Transaction};
use std::time::Duration;
use tokio::time::Instant;

/// A restart advances the clock by at most this much of the time since it was stored: the rest may have been a step.
const MAX_GAP: Duration = Duration::from_secs(3_600);

/// A steady time, and when it was that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteadyClock {
    steady: Micros,
    at: Instant,
}

impl SteadyClock {
    /// The time now.
    pub(crate) fn now(&self) -> Micros {
        self.steady.saturating_add(self.at.elapsed())
    }

    /// Continues from the stored time.
    async fn resume(tx: &mut Transaction, wall: Micros) -> Result<Self, ConversionStoreError> {
        let select = Statement::new("SELECT steady FROM outgoing_clock WHERE id = 1");
        let stored: Option<Micros> = tx.fetch_optional(select).await?;
        let steady = stored.map_or(wall, |stored| {
            wall.clamp(stored, stored.saturating_add(MAX_GAP))
        });
        Ok(Self {
            steady,
            at: Instant::now(),
        })
    }
}

impl ConversionStore {
    /// The clock of the queue, which starts at `wall` if none was stored.
    pub(crate) async fn steady_clock(
        &self,
        wall: Micros,
    ) -> Result<SteadyClock, ConversionStoreError> {
        let resume = async || {
            let mut tx = self.begin().await?;
            SteadyClock::resume(&mut tx, wall).await
        };
        self.steady.get_or_try_init(resume).await.copied()
    }

    /// Stores the time of the queue.
    pub(crate) async fn keep_steady(&self, now: Micros) -> Result<(), ConversionStoreError> {
        let time = [("id", 1_i64.into()), ("steady", now.into())];
        let insert = Statement::insert("outgoing_clock", time);
        let store = insert.push(
            " ON CONFLICT (id) DO UPDATE SET steady = excluded.steady \
             WHERE outgoing_clock.steady < excluded.steady",
        );
        self.execute(store).await?;
        Ok(())
    }
}
