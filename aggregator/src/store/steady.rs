//! The clock of the queue of postbacks: it begins at the time of day, goes on by the elapsed time while an
//! aggregator works, and never follows a step of the system clock. So no step makes a postback expire, or
//! puts off one that is due.

use super::sql::{Tx, Value};
use super::{ConversionStore, ConversionStoreError};
use domain::Micros;
use std::time::Duration;
use tokio::time::Instant;

/// A restart counts at most this much of the time since the clock was kept: it may have been a step.
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
        let elapsed = u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        Micros(self.steady.0.saturating_add(elapsed))
    }

    /// Goes on from what was kept.
    async fn resume(tx: &mut Tx, wall: Micros) -> Result<Self, ConversionStoreError> {
        let sql = "SELECT steady FROM outgoing_clock WHERE id = 1";
        let lines = tx.fetch_all(sql, &[]).await?;
        let kept = lines.first().map(|line| line.number(0)).transpose()?;
        let steady = kept.map_or(wall, |kept| {
            let kept = u64::try_from(kept).unwrap_or_default();
            let gap = u64::try_from(MAX_GAP.as_micros()).unwrap_or(u64::MAX);
            Micros(wall.0.clamp(kept, kept.saturating_add(gap)))
        });
        Ok(Self {
            steady,
            at: Instant::now(),
        })
    }
}

impl ConversionStore {
    /// The clock of the queue, which began at `wall` when there was none.
    pub(crate) async fn steady_clock(
        &self,
        wall: Micros,
    ) -> Result<SteadyClock, ConversionStoreError> {
        let resume = async || {
            let mut tx = self.begin().await?;
            let clock = SteadyClock::resume(&mut tx, wall).await?;
            tx.commit().await?;
            Ok::<_, ConversionStoreError>(clock)
        };
        self.steady.get_or_try_init(resume).await.copied()
    }

    /// Writes the time of the queue down.
    pub(crate) async fn keep_steady(&self, now: Micros) -> Result<(), ConversionStoreError> {
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO outgoing_clock (id, steady) VALUES (1, $1) ON CONFLICT (id) DO UPDATE \
             SET steady = excluded.steady WHERE outgoing_clock.steady < excluded.steady",
            &[Value::Number(i64::try_from(now.0).unwrap_or(i64::MAX))],
        )
        .await?;
        tx.commit().await
    }
}
