//! Clicks of conversions, with those that are still to be found in ClickHouse.

use super::{ConversionStore, ConversionStoreError, click_id};
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use tracking_events::ClickId;

/// A click of a conversion that is to be looked up.
#[derive(Debug)]
pub(crate) struct AwaitedClick {
    pub(crate) id: ClickId,
    /// Since when it has been awaited.
    pub(crate) since: Micros,
}

typed_row! {
    struct AwaitedClickRow {
        click_id: String,
        since: Micros,
    }
}

/// The result of looking up a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClickSearch {
    /// ClickHouse has stored its attribution.
    Attributed,
    /// It is to be looked up again at this time.
    Later(Micros),
    /// It is not expected any more.
    GivenUp,
}

/// Locks a click until the transaction ends. Otherwise two aggregators that evaluate reports of one click at the same
/// time would each fold only its own reports. A new click is queued to be looked up.
pub(super) async fn lock(
    tx: &mut Transaction,
    click: &str,
    now: Micros,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::insert(
        "conversion_clicks",
        [
            ("click_id", click.into()),
            ("state", "awaited".into()),
            ("due", now.into()),
            ("since", now.into()),
        ],
    );
    let lock = insert.push(" ON CONFLICT (click_id) DO UPDATE SET click_id = excluded.click_id");
    tx.execute(lock).await?;
    Ok(())
}

impl ConversionStore {
    /// Clicks that are to be looked up at `now`, at most `limit`.
    pub(crate) async fn awaited_clicks(
        &self,
        now: Micros,
        limit: usize,
    ) -> Result<Vec<AwaitedClick>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let select = Statement::new(
            "SELECT click_id, since FROM conversion_clicks WHERE state = 'awaited' AND due <= $1 \
             ORDER BY due LIMIT $2",
        );
        let rows: Vec<AwaitedClickRow> = tx.fetch_all(select.bind(now).bind(limit)).await?;
        let clicks = rows.into_iter().map(|row| {
            Ok(AwaitedClick {
                id: click_id(row.click_id)?,
                since: row.since,
            })
        });
        clicks.collect()
    }

    /// Stores the results of looking up clicks at `now`.
    pub(crate) async fn store_click_searches(
        &self,
        now: Micros,
        searches: &[(ClickId, ClickSearch)],
    ) -> Result<(), ConversionStoreError> {
        let mut attempts = self.attempts().await?;
        loop {
            let mut tx = attempts.begin().await?;
            let stored = store_searches(&mut tx, now, searches).await;
            if let Some(stored) = attempts.finish(tx, stored).await {
                return stored;
            }
        }
    }
}

async fn store_searches(
    tx: &mut Transaction,
    now: Micros,
    searches: &[(ClickId, ClickSearch)],
) -> Result<(), ConversionStoreError> {
    let update = "UPDATE conversion_clicks SET state = $2, due = $3 WHERE click_id = $1 AND state = 'awaited'";
    for (click, search) in searches {
        let (state, due) = match search {
            ClickSearch::Attributed => ("attributed", now),
            ClickSearch::Later(due) => ("awaited", *due),
            ClickSearch::GivenUp => ("unknown", now),
        };
        let update = Statement::new(update).bind(click.to_string());
        tx.execute(update.bind(state).bind(due)).await?;
    }
    Ok(())
}
