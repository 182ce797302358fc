//! Clicks that conversions are due to: which of them are still to be found in ClickHouse.

use super::sql::{Tx, Value};
use super::{ConversionStore, ConversionStoreError};
use domain::Micros;
use tracking_events::ClickId;

/// A click that a conversion is due to, and that is to be looked up.
#[derive(Debug)]
pub(crate) struct AwaitedClick {
    pub(crate) id: ClickId,
    /// Since when.
    pub(crate) since: Micros,
}

/// What looking for a click led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClickSearch {
    /// ClickHouse keeps what it belongs to.
    Attributed,
    /// Look again at this time.
    Later(Micros),
    /// It will not come any more.
    GivenUp,
}

/// Locks a click until the transaction ends: two aggregators that evaluate reports of one click at the same time must
/// not each fold only the reports that it knows. A new click is to be looked up.
pub(super) async fn lock(
    tx: &mut Tx,
    click: &str,
    now: Micros,
) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO conversion_clicks (click_id, state, due, since) VALUES ($1, 'awaited', $2, $2) \
         ON CONFLICT (click_id) DO UPDATE SET click_id = excluded.click_id",
        &[Value::Text(click), Value::Number(now.0.cast_signed())],
    )
    .await?;
    Ok(())
}

impl ConversionStore {
    /// Clicks that are to be looked up at `now`, at most so many.
    pub(crate) async fn awaited_clicks(
        &self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<AwaitedClick>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let lines = tx
            .fetch_all(
                "SELECT click_id, since FROM conversion_clicks WHERE state = 'awaited' AND due <= $1 \
                 ORDER BY due LIMIT $2",
                &[
                    Value::Number(now.0.cast_signed()),
                    Value::Number(i64::try_from(most).unwrap_or(i64::MAX)),
                ],
            )
            .await?;
        let clicks = lines.iter().map(|line| {
            let id = line.text(0)?;
            Ok(AwaitedClick {
                id: ClickId::parse(id.as_bytes()).map_err(|_| ConversionStoreError::Foreign(id))?,
                since: Micros(line.number(1)?.cast_unsigned()),
            })
        });
        clicks.collect()
    }

    /// Keeps what looking for clicks at `now` led to.
    pub(crate) async fn clicks_searched(
        &self,
        now: Micros,
        searches: &[(ClickId, ClickSearch)],
    ) -> Result<(), ConversionStoreError> {
        let mut tx = self.begin().await?;
        for (click, search) in searches {
            let (state, at) = match search {
                ClickSearch::Attributed => ("attributed", now),
                ClickSearch::Later(due) => ("awaited", *due),
                ClickSearch::GivenUp => ("unknown", now),
            };
            tx.execute(
                "UPDATE conversion_clicks SET state = $2, due = $3 WHERE click_id = $1 AND state = 'awaited'",
                &[
                    Value::Text(&click.to_string()),
                    Value::Text(state),
                    Value::Number(at.0.cast_signed()),
                ],
            )
            .await?;
        }
        tx.commit().await
    }
}
