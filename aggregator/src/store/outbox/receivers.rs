//! Receivers of postbacks: when the next postback of each is due. A receiver that fails waits and delays no other.

use crate::store::ConversionStoreError;
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};

/// Later than any time.
const NEVER: i64 = i64::MAX;
/// Receivers per turn: far more than can be sent to at once, so that those without capacity leave the turn to others.
const MAX_RECEIVERS: usize = 4_096;

typed_row! {
    /// A receiver with due postbacks.
    #[derive(Debug)]
    pub(super) struct DueReceiver {
        pub(super) receiver: String,
        /// Its failed attempts in a row.
        pub(super) failures: u32,
    }
}

/// Adds a receiver, unless it is known.
pub(super) async fn add(tx: &mut Transaction, receiver: &str) -> Result<(), ConversionStoreError> {
    let insert = Statement::insert(
        "outgoing_receivers",
        [
            ("receiver", receiver.into()),
            ("next_due", NEVER.into()),
            ("held_until", 0_i64.into()),
            ("failures", 0_i64.into()),
        ],
    );
    tx.execute(insert.push(" ON CONFLICT (receiver) DO NOTHING"))
        .await?;
    Ok(())
}

/// Receivers with due postbacks.
pub(super) async fn due(
    tx: &mut Transaction,
    now: Micros,
) -> Result<Vec<DueReceiver>, ConversionStoreError> {
    let select = Statement::new(
        "SELECT receiver, failures FROM outgoing_receivers WHERE next_due <= $1 ORDER BY next_due LIMIT $2",
    );
    Ok(tx.fetch_all(select.bind(now).bind(MAX_RECEIVERS)).await?)
}

/// Stores that a receiver responded to an attempt which began after `failures` failures.
pub(super) async fn set_healthy(
    tx: &mut Transaction,
    receiver: &str,
    failures: u32,
) -> Result<(), ConversionStoreError> {
    let update = Statement::new(
        "UPDATE outgoing_receivers SET failures = 0, held_until = 0 WHERE receiver = $1 AND failures <= $2",
    );
    tx.execute(update.bind(receiver).bind(failures)).await?;
    Ok(())
}

/// Stores that a receiver failed again; nothing if the attempt began before the receiver was held.
pub(super) async fn set_failing(
    tx: &mut Transaction,
    receiver: &str,
    failures: u32,
    held_until: Micros,
) -> Result<(), ConversionStoreError> {
    let update = Statement::new(
        "UPDATE outgoing_receivers SET failures = $2, held_until = $3 \
         WHERE receiver = $1 AND failures <= $2 AND held_until < $3",
    );
    tx.execute(update.bind(receiver).bind(failures).bind(held_until))
        .await?;
    Ok(())
}

/// Ends the hold of a receiver.
pub(super) async fn release(
    tx: &mut Transaction,
    receiver: &str,
) -> Result<(), ConversionStoreError> {
    let update = Statement::new("UPDATE outgoing_receivers SET held_until = 0 WHERE receiver = $1");
    tx.execute(update.bind(receiver)).await?;
    Ok(())
}

/// Recomputes when the next postback of each receiver is due.
pub(super) async fn refresh_all<'r>(
    tx: &mut Transaction,
    receivers: impl IntoIterator<Item = &'r str>,
) -> Result<(), ConversionStoreError> {
    for receiver in receivers {
        refresh(tx, receiver).await?;
    }
    Ok(())
}

/// Recomputes when the receiver's next postback is due; one that waits for an earlier revision is not.
pub(super) async fn refresh(
    tx: &mut Transaction,
    receiver: &str,
) -> Result<(), ConversionStoreError> {
    // The row is locked first: only a statement that begins after that sees the latest commits of others.
    let lock = "UPDATE outgoing_receivers SET next_due = next_due WHERE receiver = $1";
    tx.execute(Statement::new(lock).bind(receiver)).await?;
    let update = Statement::new(
        "UPDATE outgoing_receivers SET next_due = (SELECT CASE WHEN MIN(o.due) IS NULL THEN $2 \
         WHEN MIN(o.due) < outgoing_receivers.held_until THEN outgoing_receivers.held_until \
         ELSE MIN(o.due) END FROM outgoing_postbacks o WHERE o.state = 'due' AND o.receiver = $1 \
         AND NOT EXISTS (SELECT 1 FROM outgoing_postbacks e WHERE e.identity = o.identity \
         AND e.revision < o.revision AND e.state IN ('awaits_click', 'due'))) \
         WHERE receiver = $1",
    );
    tx.execute(update.bind(receiver).bind(NEVER)).await?;
    Ok(())
}
