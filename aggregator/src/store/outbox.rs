//! The queue of postbacks to affiliates. A revision is queued in the transaction that evaluates its report; here is which
//! postbacks wait for their click, which are due, and the outcome of each attempt. How a postback is made and sent is not
//! known here.

mod attempts;
mod leases;
mod list;
mod receivers;
mod searches;

pub(crate) use attempts::{Attempt, AttemptOutcome, EndpointHealth};
pub(crate) use leases::{LeasedPostback, PostbackSale};
pub(crate) use list::POSTBACK_STATES;
pub(crate) use searches::{AwaitingPostback, SubscriberSearch};

use super::ConversionStoreError;
use domain::Micros;
use sql_store::{Statement, Transaction, Value, typed_row};

/// Rows changed at once by housekeeping.
const HOUSEKEEPING_ROWS: usize = 1_000;

typed_row! {
    /// A revision of a conversion, as the queue knows it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct PostbackKey {
        /// The conversion's identity.
        pub(crate) identity: String,
        pub(crate) revision: u32,
    }
}

impl PostbackKey {
    /// The id that receivers see: the same in each attempt, and never used for another revision, also after a store was
    /// lost and the numbers of revisions began again.
    pub(crate) fn name(&self, epoch: u64) -> String {
        let conversion: String = self.identity.chars().take(32).collect();
        format!("{conversion}-{epoch:x}-{}", self.revision)
    }

    /// Sets `$1` to the conversion and `$2` to the revision.
    fn bind_to(&self, sql: &'static str) -> Statement {
        Statement::new(sql).bind(&self.identity).bind(self.revision)
    }
}

/// Queues a revision that was made now, in the store's epoch.
pub(super) async fn enqueue(
    tx: &mut Transaction,
    identity: &str,
    revision: u32,
    time: Micros,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::new(
        "INSERT INTO outgoing_postbacks (identity, revision, state, due, since, attempts, receiver, \
         click, last_status, last_error, epoch) VALUES ($1, $2, 'awaits_click', $3, $3, 0, '', '', 0, '', \
         COALESCE((SELECT epoch FROM store_epoch), 0))",
    );
    tx.execute(insert.bind(identity).bind(revision).bind(time))
        .await?;
    Ok(())
}

/// Queues a revision that a store of an earlier epoch made, under the id that it had.
pub(super) async fn enqueue_again(
    tx: &mut Transaction,
    identity: &str,
    revision: u32,
    epoch: u64,
    time: Micros,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::new(
        "INSERT INTO outgoing_postbacks (identity, revision, state, due, since, attempts, receiver, \
         click, last_status, last_error, epoch) VALUES ($1, $2, 'awaits_click', $3, $3, 0, '', '', 0, '', $4) \
         ON CONFLICT (identity, revision) DO NOTHING",
    );
    let insert = insert.bind(identity).bind(revision).bind(time);
    tx.execute(insert.bind(epoch)).await?;
    Ok(())
}

/// The column `ended`: the time of day for a postback that ends now.
fn ended(has_ended: bool) -> Value {
    let time = if has_ended { Micros::now() } else { Micros(0) };
    time.into()
}
