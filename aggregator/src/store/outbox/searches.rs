//! Postbacks that wait for their click, which determines their receiver.

use super::{PostbackKey, ended, receivers};
use crate::store::{ConversionStore, ConversionStoreError, click_id};
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::collections::BTreeSet;
use tracking_events::ClickId;

/// A postback whose click is to be looked up.
#[derive(Debug)]
pub(crate) struct AwaitingPostback {
    pub(crate) key: PostbackKey,
    pub(crate) click: ClickId,
    /// Since when it waits.
    pub(crate) since: Micros,
}

typed_row! {
    struct AwaitingRow {
        key: PostbackKey,
        click_id: String,
        since: Micros,
    }
}

/// The result of looking up a click and its subscriber.
#[derive(Debug)]
pub(crate) enum SubscriberSearch {
    /// The click is known.
    Found {
        receiver: String,
        /// The facts of the click that may be sent (JSON).
        click: String,
    },
    /// The click is known and has no subscriber.
    Unwanted,
    /// It is to be looked up again at this time.
    Later(Micros),
    /// It is not expected any more.
    GivenUp,
}

impl ConversionStore {
    /// Postbacks whose click is to be looked up at `now`, at most `limit`.
    pub(crate) async fn awaiting(
        &self,
        now: Micros,
        limit: usize,
    ) -> Result<Vec<AwaitingPostback>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let select = Statement::new(
            "SELECT o.identity, o.revision, c.click_id, o.since FROM outgoing_postbacks o \
             JOIN conversions c ON c.identity = o.identity \
             WHERE o.state = 'awaits_click' AND o.due <= $1 ORDER BY o.due LIMIT $2",
        );
        let rows: Vec<AwaitingRow> = tx.fetch_all(select.bind(now).bind(limit)).await?;
        let awaiting = rows.into_iter().map(|row| {
            Ok(AwaitingPostback {
                key: row.key,
                click: click_id(row.click_id)?,
                since: row.since,
            })
        });
        awaiting.collect()
    }

    /// Stores the results of searches.
    pub(crate) async fn store_searches(
        &self,
        now: Micros,
        searches: &[(PostbackKey, SubscriberSearch)],
    ) -> Result<(), ConversionStoreError> {
        let mut attempts = self.attempts().await?;
        loop {
            let mut tx = attempts.begin().await?;
            let stored = store_all(&mut tx, now, searches).await;
            if let Some(stored) = attempts.finish(tx, stored).await {
                return stored;
            }
        }
    }
}

async fn store_all(
    tx: &mut Transaction,
    now: Micros,
    searches: &[(PostbackKey, SubscriberSearch)],
) -> Result<(), ConversionStoreError> {
    let mut found = BTreeSet::new();
    for (key, search) in searches {
        match search {
            SubscriberSearch::Found { receiver, click } => {
                store_found(tx, now, key, receiver, click).await?;
                found.insert(receiver.as_str());
            }
            SubscriberSearch::Unwanted => store(tx, key, "unwanted", now).await?,
            SubscriberSearch::Later(due) => store(tx, key, "awaits_click", *due).await?,
            SubscriberSearch::GivenUp => store(tx, key, "click_unknown", now).await?,
        }
    }
    receivers::refresh_all(tx, found).await
}

async fn store_found(
    tx: &mut Transaction,
    now: Micros,
    key: &PostbackKey,
    receiver: &str,
    click: &str,
) -> Result<(), ConversionStoreError> {
    let update = key.bind_to(
        "UPDATE outgoing_postbacks SET state = 'due', due = $3, since = $3, receiver = $4, click = $5 \
         WHERE identity = $1 AND revision = $2 AND state = 'awaits_click'",
    );
    tx.execute(update.bind(now).bind(receiver).bind(click))
        .await?;
    receivers::add(tx, receiver).await
}

/// Stores the result of a search; nothing if another aggregator was faster.
async fn store(
    tx: &mut Transaction,
    key: &PostbackKey,
    state: &'static str,
    due: Micros,
) -> Result<(), ConversionStoreError> {
    let update = key.bind_to(
        "UPDATE outgoing_postbacks SET state = $3, due = $4, ended = $5 \
         WHERE identity = $1 AND revision = $2 AND state = 'awaits_click'",
    );
    let update = update.bind(state).bind(due);
    tx.execute(update.bind(ended(state != "awaits_click")))
        .await?;
    Ok(())
}
