//! Transactions that are repeated when another one was in the way.

use crate::SqlError;
use crate::database::Database;
use crate::transaction::{Isolation, Transaction};
use daemon::backoff::Backoff;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;
use tokio::time::sleep;

/// With their pauses, all attempts take about seven seconds.
const MAX_ATTEMPTS: u32 = 20;
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(5), Duration::from_millis(500));

/// An error that may be a conflict between transactions.
pub trait IsConflict: From<SqlError> {
    /// Whether the transaction may succeed if it is repeated ([`SqlError::is_conflict`]).
    fn is_conflict(&self) -> bool;
}

impl IsConflict for SqlError {
    fn is_conflict(&self) -> bool {
        Self::is_conflict(self)
    }
}

/// The attempts at one transaction: it is repeated after a conflict with another one (failed serialisation, a deadlock),
/// at most 20 times. In SQLite `begin` waits for the lock instead.
///
/// ```no_run
/// # use sql_store::{Database, Isolation, SqlError, Statement, Transaction};
/// # async fn pay(tx: &mut Transaction) -> Result<u64, SqlError> { tx.execute(Statement::new("…")).await }
/// # async fn example(database: &Database) -> Result<u64, SqlError> {
/// let mut attempts = database.attempts(Isolation::Serializable);
/// loop {
///     let mut tx = attempts.begin().await?;
///     let paid = pay(&mut tx).await;
///     if let Some(paid) = attempts.finish(tx, paid).await {
///         return paid;
///     }
/// }
/// # }
/// ```
///
/// It is a loop and not a function that takes a closure, because futures of such closures are not known to be `Send`
/// when they borrow.
#[derive(Debug)]
pub struct TransactionAttempts<'a> {
    database: &'a Database,
    isolation: Isolation,
    failures: u32,
    seed: String,
}

impl Database {
    /// Prepares the attempts at a transaction that writes.
    #[must_use]
    pub fn attempts(&self, isolation: Isolation) -> TransactionAttempts<'_> {
        TransactionAttempts {
            database: self,
            isolation,
            failures: 0,
            seed: seed(),
        }
    }
}

impl TransactionAttempts<'_> {
    /// Begins an attempt. In SQLite it locks the file at once.
    ///
    /// # Errors
    /// When no connection, or no lock of SQLite's file, is available in time.
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        self.database.begin_write(self.isolation).await
    }

    /// Commits the attempt if it succeeded, and returns its result. Returns `None` after a conflict: the changes are
    /// rolled back, a pause is over, and the caller makes another attempt.
    pub async fn finish<T, E: IsConflict>(
        &mut self,
        tx: Transaction,
        outcome: Result<T, E>,
    ) -> Option<Result<T, E>> {
        let outcome = match outcome {
            Ok(done) => tx.commit().await.map(|()| done).map_err(E::from),
            Err(error) => {
                drop(tx);
                Err(error)
            }
        };
        match outcome {
            Err(error) if error.is_conflict() && self.failures + 1 < MAX_ATTEMPTS => {
                self.failures += 1;
                tracing::debug!(
                    failures = self.failures,
                    "repeating a transaction after a conflict"
                );
                sleep(BACKOFF.spread_pause(self.failures, &self.seed)).await;
                None
            }
            outcome => Some(outcome),
        }
    }
}

/// Differs between transactions, also of several processes.
fn seed() -> String {
    RandomState::new().build_hasher().finish().to_string()
}
