//! Outcomes of attempts, and the end of postbacks that were tried for too long or ended long ago.

use super::{HOUSEKEEPING_ROWS, PostbackKey, ended, receivers};
use crate::store::{ConversionStore, ConversionStoreError};
use domain::Micros;
use sql_store::{Statement, Transaction};
use std::collections::BTreeSet;

/// A finished attempt at a postback.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) key: PostbackKey,
    pub(crate) receiver: String,
    pub(crate) outcome: AttemptOutcome,
    /// The status code of the response; 0 without one.
    pub(crate) status: u16,
    /// The error, or empty.
    pub(crate) error: String,
    /// The number of this attempt at the postback.
    pub(crate) attempts: u32,
    /// Failed attempts at the receiver in a row when it began.
    pub(crate) failures: u32,
    pub(crate) endpoint_health: EndpointHealth,
}

/// The result of an attempt for its postback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    Delivered,
    Refused,
    GivenUp,
    /// It has no subscriber.
    Unwanted,
    /// To be sent again at this time.
    Retry(Micros),
}

/// The result of an attempt for its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointHealth {
    /// It responds.
    Healthy,
    /// It does not, or asks for a pause; until then nothing is sent to it.
    Failing { held_until: Micros },
    /// Nothing was sent.
    Unknown,
}

impl ConversionStore {
    /// Stores the outcomes of attempts.
    pub(crate) async fn store_attempts(
        &self,
        now: Micros,
        attempts: &[Attempt],
    ) -> Result<(), ConversionStoreError> {
        let mut transactions = self.attempts().await?;
        loop {
            let mut tx = transactions.begin().await?;
            let stored = store_all(&mut tx, now, attempts).await;
            if let Some(stored) = transactions.finish(tx, stored).await {
                return stored;
            }
        }
    }

    /// Gives up postbacks that became due before `before`, unless an attempt is in flight at `now`. A failing receiver is
    /// tried too rarely for a last attempt at each of its postbacks. Returns their number.
    pub(crate) async fn give_up(
        &self,
        now: Micros,
        before: Micros,
    ) -> Result<u64, ConversionStoreError> {
        let update = Statement::new(
            "UPDATE outgoing_postbacks SET state = 'given_up', ended = $4 WHERE (identity, revision) IN \
             (SELECT identity, revision FROM outgoing_postbacks \
             WHERE state = 'due' AND due <= $1 AND since < $2 LIMIT $3)",
        );
        let update = update.bind(now).bind(before).bind(HOUSEKEEPING_ROWS);
        self.execute(update.bind(Micros::now())).await
    }

    /// Deletes some postbacks that ended before `before`.
    pub(crate) async fn delete_ended(&self, before: Micros) -> Result<(), ConversionStoreError> {
        let delete = Statement::new(
            "DELETE FROM outgoing_postbacks WHERE (identity, revision) IN \
             (SELECT identity, revision FROM outgoing_postbacks WHERE state IN \
             ('delivered', 'refused', 'given_up', 'click_unknown', 'unwanted') AND due < $1 LIMIT $2)",
        );
        let delete = delete.bind(before).bind(HOUSEKEEPING_ROWS);
        self.execute(delete).await.map(drop)
    }
}

async fn store_all(
    tx: &mut Transaction,
    now: Micros,
    attempts: &[Attempt],
) -> Result<(), ConversionStoreError> {
    let mut stored = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        if store(tx, now, attempt).await? {
            stored.push(attempt);
        }
    }
    // In one order everywhere, so that two aggregators don't wait for each other.
    stored.sort_by_key(|attempt| &attempt.receiver);
    for attempt in &stored {
        update_receiver(tx, attempt).await?;
    }
    let receivers: BTreeSet<&str> = stored.iter().map(|it| it.receiver.as_str()).collect();
    receivers::refresh_all(tx, receivers).await
}

/// Stores an outcome; false if the lease had ended and another attempt has begun since.
async fn store(
    tx: &mut Transaction,
    now: Micros,
    attempt: &Attempt,
) -> Result<bool, ConversionStoreError> {
    let (state, due) = match attempt.outcome {
        AttemptOutcome::Delivered => ("delivered", now),
        AttemptOutcome::Refused => ("refused", now),
        AttemptOutcome::GivenUp => ("given_up", now),
        AttemptOutcome::Unwanted => ("unwanted", now),
        AttemptOutcome::Retry(due) => ("due", due),
    };
    let update = attempt.key.bind_to(
        "UPDATE outgoing_postbacks SET state = $3, due = $4, last_status = $5, last_error = $6, ended = $8 \
         WHERE identity = $1 AND revision = $2 AND state = 'due' AND attempts = $7",
    );
    let update = update.bind(state).bind(due);
    let update = update.bind(attempt.status).bind(&attempt.error);
    let update = update.bind(attempt.attempts).bind(ended(state != "due"));
    Ok(tx.execute(update).await? == 1)
}

async fn update_receiver(
    tx: &mut Transaction,
    attempt: &Attempt,
) -> Result<(), ConversionStoreError> {
    match attempt.endpoint_health {
        EndpointHealth::Unknown => Ok(()),
        EndpointHealth::Healthy => {
            receivers::set_healthy(tx, &attempt.receiver, attempt.failures).await
        }
        EndpointHealth::Failing { held_until } => {
            let failures = attempt.failures.saturating_add(1);
            receivers::set_failing(tx, &attempt.receiver, failures, held_until).await
        }
    }
}
