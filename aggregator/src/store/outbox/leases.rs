//! Leases of due postbacks: a dispatcher sends only postbacks that it has leased.

use super::PostbackKey;
use super::receivers::{self, DueReceiver};
use crate::store::{ConversionStore, ConversionStoreError};
use domain::{Micros, Money};
use sql_store::{Statement, Transaction, typed_row};
use std::cmp::Reverse;
use std::time::Duration;

/// A postback that is due. Until the lease ends no other dispatcher sends it.
#[derive(Debug)]
pub(crate) struct LeasedPostback {
    pub(crate) key: PostbackKey,
    /// The epoch in which its revision was made.
    pub(crate) epoch: u64,
    pub(crate) receiver: String,
    pub(crate) click: String,
    /// Since when it is to be sent.
    pub(crate) since: Micros,
    /// This attempt included.
    pub(crate) attempts: u32,
    /// Failed attempts at the receiver in a row.
    pub(crate) failures: u32,
    pub(crate) sale: PostbackSale,
}

typed_row! {
    /// A conversion at a revision, in the texts of the tables.
    #[derive(Debug, Clone)]
    pub(crate) struct PostbackSale {
        pub(crate) click_id: String,
        pub(crate) kind: String,
        pub(crate) kind_name: String,
        pub(crate) transaction_id: String,
        pub(crate) status: String,
        pub(crate) payout: Money,
        pub(crate) time: Micros,
    }
}

typed_row! {
    struct DuePostback {
        key: PostbackKey,
        due: i64,
        since: Micros,
        attempts: u32,
        click: String,
        epoch: u64,
        sale: PostbackSale,
    }
}

impl ConversionStore {
    /// Leases due postbacks for `lease`, at most `limit`. `capacity` returns how many more postbacks a receiver, with its
    /// number of failures in a row, may be sent now. Revisions of one conversion are leased one after the other.
    pub(crate) async fn lease_due(
        &self,
        now: impl Fn() -> Micros,
        lease: Duration,
        limit: usize,
        capacity: impl Fn(&str, u32) -> usize,
    ) -> Result<Vec<LeasedPostback>, ConversionStoreError> {
        let mut attempts = self.attempts().await?;
        loop {
            let mut tx = attempts.begin().await?;
            // Read now: a connection may have become available late.
            let now = now();
            let leased = lease_all(&mut tx, now, lease, limit, &capacity).await;
            if let Some(leased) = attempts.finish(tx, leased).await {
                return leased;
            }
        }
    }
}

async fn lease_all(
    tx: &mut Transaction,
    now: Micros,
    lease: Duration,
    limit: usize,
    capacity: &impl Fn(&str, u32) -> usize,
) -> Result<Vec<LeasedPostback>, ConversionStoreError> {
    let mut leased = Vec::new();
    let mut due = receivers::due(tx, now).await?;
    // Those with the most capacity first: a slow receiver does not take the places of others.
    due.sort_by_key(|it| Reverse(capacity(&it.receiver, it.failures)));
    for receiver in due {
        let capacity = capacity(&receiver.receiver, receiver.failures);
        let capacity = capacity.min(limit - leased.len());
        if capacity > 0 {
            for postback in due_at(tx, now, &receiver.receiver, capacity).await? {
                if take_lease(tx, &postback, now.saturating_add(lease)).await? {
                    leased.push(postback.leased(&receiver));
                }
            }
            receivers::refresh(tx, &receiver.receiver).await?;
        }
    }
    Ok(leased)
}

/// Due postbacks of a receiver. A revision waits for the earlier ones of its conversion.
async fn due_at(
    tx: &mut Transaction,
    now: Micros,
    receiver: &str,
    limit: usize,
) -> Result<Vec<DuePostback>, ConversionStoreError> {
    let select = Statement::new(
        "SELECT o.identity, o.revision, o.due, o.since, o.attempts, o.click, o.epoch, c.click_id, c.kind, \
         c.kind_name, c.transaction_id, r.status, r.payout_minor, r.currency, r.time \
         FROM outgoing_postbacks o \
         JOIN conversions c ON c.identity = o.identity \
         JOIN conversion_revisions r ON r.identity = o.identity AND r.revision = o.revision \
         WHERE o.state = 'due' AND o.receiver = $1 AND o.due <= $2 AND NOT EXISTS \
         (SELECT 1 FROM outgoing_postbacks e WHERE e.identity = o.identity \
         AND e.revision < o.revision AND e.state IN ('awaits_click', 'due')) \
         ORDER BY o.due LIMIT $3",
    );
    let select = select.bind(receiver).bind(now).bind(limit);
    Ok(tx.fetch_all(select).await?)
}

/// Takes the lease of a postback; false if another aggregator was faster.
async fn take_lease(
    tx: &mut Transaction,
    postback: &DuePostback,
    until: Micros,
) -> Result<bool, ConversionStoreError> {
    let update = postback.key.bind_to(
        "UPDATE outgoing_postbacks SET due = $4, attempts = attempts + 1 \
         WHERE identity = $1 AND revision = $2 AND state = 'due' AND due = $3",
    );
    let changed = tx.execute(update.bind(postback.due).bind(until)).await?;
    Ok(changed == 1)
}

impl DuePostback {
    fn leased(self, receiver: &DueReceiver) -> LeasedPostback {
        LeasedPostback {
            key: self.key,
            epoch: self.epoch,
            receiver: receiver.receiver.clone(),
            click: self.click,
            since: self.since,
            attempts: self.attempts.saturating_add(1),
            failures: receiver.failures,
            sale: self.sale,
        }
    }
}
