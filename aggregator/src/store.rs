//! The store of conversions and affiliates, in SQLite or PostgreSQL.
//!
//! Reports of a block are evaluated in one transaction, and each verdict is stored with the event's place and hash: the
//! same block always gets the same verdicts. Invariant: all SQL of the aggregator is here; ClickHouse is known only as the
//! history from which a new store is rebuilt.

mod affiliates;
mod clicks;
mod conversions;
mod epoch;
mod evaluation;
mod idempotency;
mod limits;
mod migrations;
mod outbox;
mod rebuild;
mod standing;
mod steady;
#[cfg(test)]
mod tests;

pub(crate) use clicks::{AwaitedClick, ClickSearch};
pub(crate) use epoch::{Epoch, EstablishError, Rebuild};
#[cfg(test)]
pub(crate) use outbox::PostbackKey;
pub(crate) use outbox::{
    Attempt, AttemptOutcome, AwaitingPostback, EndpointHealth, LeasedPostback, POSTBACK_STATES,
    PostbackSale, SubscriberSearch,
};
pub use rebuild::RebuildSummary;

use crate::report::{LocatedEvent, Verdict};
use crate::settings::Settings;
use crate::verification::Verification;
use catalog::{Catalog, CatalogError};
use domain::Micros;
use evaluation::Evaluator;
use migrations::MIGRATIONS;
use prometheus::IntCounter;
use sql_store::{
    Access, CopiedTable, Database, IsConflict, Isolation, Location, SqlError, Statement,
    Transaction, TransactionAttempts,
};
use std::path::Path;
use std::time::Duration;
pub(crate) use steady::SteadyClock;
use thiserror::Error;
use tokio::sync::{Notify, OnceCell};
use tokio::time::timeout;
use tracking_events::ClickId;

/// The limit for a block without reports, and the addition for each report.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);
const PER_REPORT_TIMEOUT: Duration = Duration::from_millis(20);
/// The limit for everything else.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

const ACCESS: Access = Access {
    application_name: "aggregator",
    // For evaluation, postbacks and the check of the connection.
    max_connections: 3,
};

const CATALOG_ACCESS: Access = Access {
    application_name: "aggregator-catalog",
    max_connections: 2,
};

/// Tables of which at least one has rows in a store that was used.
const STATE_TABLES: [&str; 5] = [
    "conversions",
    "kyc_deliveries",
    "applied_events",
    "outgoing_postbacks",
    "store_epoch",
];

/// The store can't be used now.
#[derive(Debug, Error)]
pub(crate) enum ConversionStoreError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A report waits for a key that may be provided later.
    #[error(
        "a conversion's click id has a key that is not known here: copy the edges' secrets to the file that \
         [reports] secrets names; the report waits for unknown_key_wait"
    )]
    UnknownClickKey,
    #[error("no response within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl IsConflict for ConversionStoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_conflict())
    }
}

/// The location that the settings name.
pub(crate) fn location(settings: &Settings) -> Location {
    match &settings.store.url {
        Some(url) => Location::Url(url.reveal().to_owned()),
        None => Location::File(settings.store_file()),
    }
}

/// Opens the catalog, which shares the store's database and has connections of its own.
///
/// # Errors
/// When the database can't be used.
pub(crate) async fn open_catalog(
    location: &Location,
    now: Micros,
) -> Result<Catalog, CatalogError> {
    let database = Database::connect(location, CATALOG_ACCESS).await?;
    Catalog::open(database, now).await
}

/// Whether the file at `path` is a store that was used.
///
/// # Errors
/// When it can't be read.
pub(crate) async fn holds_state(path: &Path) -> Result<bool, SqlError> {
    sql_store::has_rows(path, &STATE_TABLES).await
}

/// Copies the store in the file `from` to PostgreSQL at `to`, which must have none: all of it or nothing.
///
/// # Errors
/// When either can't be used, or `to` has a store.
pub(crate) async fn copy_store(from: &Path, to: &Location) -> Result<Vec<CopiedTable>, SqlError> {
    let lists = [catalog::MIGRATIONS];
    let must_be_empty = [&STATE_TABLES[..], &["catalog_changes"]].concat();
    sql_store::copy_to_postgres(from, to, ACCESS, MIGRATIONS, &lists, &must_be_empty).await
}

/// The result of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) verdict: Verdict,
    /// The same report was evaluated before; ClickHouse may have its rows.
    pub(crate) is_repeated: bool,
}

/// Evaluates reports. Its database is opened when it is first used.
pub(crate) struct ConversionStore {
    location: Location,
    /// Whether affiliates are notified of conversions.
    notifies_affiliates: bool,
    /// The verification of reports, if it is configured.
    verification: Option<Verification>,
    database: OnceCell<Database>,
    /// Set once the store is established.
    epoch: OnceCell<Epoch>,
    steady: OnceCell<SteadyClock>,
    queue_changed: Notify,
    place_conflicts: IntCounter,
}

impl ConversionStore {
    pub(crate) fn new(location: Location, notifies_affiliates: bool) -> Self {
        let place_conflicts = IntCounter::new(
            "aggregator_place_conflicts_total",
            "Reports from a place that another report came from before: a copied edge or a stolen certificate.",
        );
        Self {
            location,
            notifies_affiliates,
            verification: None,
            database: OnceCell::const_new(),
            epoch: OnceCell::const_new(),
            steady: OnceCell::const_new(),
            queue_changed: Notify::const_new(),
            place_conflicts: place_conflicts.expect("its name is valid"),
        }
    }

    /// Sets the verification; reports that fail it are not evaluated.
    pub(crate) fn verifying(mut self, verification: Option<Verification>) -> Self {
        self.verification = verification;
        self
    }

    /// Counts reports from a place that another report came from before.
    pub(crate) const fn place_conflicts(&self) -> &IntCounter {
        &self.place_conflicts
    }

    /// The verdicts of [`ConversionStore::evaluate`] alone.
    #[cfg(test)]
    pub(crate) async fn verdicts(
        &self,
        reports: &[LocatedEvent<'_>],
    ) -> Result<Vec<Verdict>, ConversionStoreError> {
        let evaluated = self.evaluate(reports).await?;
        Ok(evaluated.into_iter().map(|it| it.verdict).collect())
    }

    /// Evaluates each report of a block: all results are stored, or none.
    pub(crate) async fn evaluate(
        &self,
        reports: &[LocatedEvent<'_>],
    ) -> Result<Vec<Evaluation>, ConversionStoreError> {
        if !reports.iter().any(LocatedEvent::needs_evaluation) {
            let noted = reports.iter().map(|_| Evaluation {
                verdict: Verdict::Noted,
                is_repeated: false,
            });
            return Ok(noted.collect());
        }
        let limit =
            BLOCK_TIMEOUT + PER_REPORT_TIMEOUT * u32::try_from(reports.len()).unwrap_or(u32::MAX);
        let evaluated = timeout(limit, self.evaluate_all(reports)).await;
        evaluated.map_err(|_| ConversionStoreError::TimedOut(limit))?
    }

    async fn evaluate_all(
        &self,
        reports: &[LocatedEvent<'_>],
    ) -> Result<Vec<Evaluation>, ConversionStoreError> {
        let evidence = match &self.verification {
            Some(verification) => Some(verification.current().await),
            None => None,
        };
        let verification = self.verification.as_ref().zip(evidence.as_deref());
        let queue_time = match self.notifies_affiliates {
            true => Some(self.steady_clock(Micros::now()).await?.now()),
            false => None,
        };
        let mut attempts = self.attempts().await?;
        let (evaluated, evaluator) = loop {
            let mut tx = attempts.begin().await?;
            let mut evaluator = Evaluator::new(queue_time, verification);
            let evaluated = evaluator.evaluate_all(&mut tx, reports).await;
            if let Some(evaluated) = attempts.finish(tx, evaluated).await {
                break (evaluated?, evaluator);
            }
        };
        self.place_conflicts.inc_by(evaluator.place_conflicts);
        if let Some((verification, _)) = verification {
            verification.report(&evaluator.set_aside);
        }
        self.queue_changed.notify_one();
        Ok(evaluated)
    }

    /// Waits until reports were evaluated, or a postback was queued again, since the last call.
    pub(crate) async fn queue_changed(&self) {
        self.queue_changed.notified().await;
    }

    /// Copies SQLite's file to `path` as a consistent snapshot, during use.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<(), ConversionStoreError> {
        Ok(self.database().await?.copy_to(path).await?)
    }

    /// Checks that the database responds.
    pub(crate) async fn ping(&self) -> Result<(), ConversionStoreError> {
        Ok(self.database().await?.ping().await?)
    }

    async fn database(&self) -> Result<&Database, SqlError> {
        let open = || Database::open(&self.location, ACCESS, MIGRATIONS);
        self.database.get_or_try_init(open).await
    }

    /// Begins a transaction that is not repeated after a conflict: it only reads, or its caller repeats it.
    async fn begin(&self) -> Result<Transaction, SqlError> {
        self.database().await?.begin().await
    }

    /// Prepares a transaction that writes.
    async fn attempts(&self) -> Result<TransactionAttempts<'_>, SqlError> {
        let database = self.database().await?;
        Ok(database.attempts(Isolation::ReadCommitted))
    }

    /// Runs one statement in a transaction of its own and returns the number of rows that it changed.
    async fn execute(&self, statement: Statement) -> Result<u64, ConversionStoreError> {
        let mut attempts = self.attempts().await?;
        loop {
            let mut tx = attempts.begin().await?;
            let changed = tx.execute(statement.clone()).await;
            if let Some(changed) = attempts.finish(tx, changed).await {
                return Ok(changed?);
            }
        }
    }
}

/// A value in the tables that no released version writes.
fn unexpected(value: &str) -> ConversionStoreError {
    SqlError::UnexpectedValue(format!("{value:?}")).into()
}

fn click_id(text: String) -> Result<ClickId, ConversionStoreError> {
    ClickId::parse(text.as_bytes()).map_err(|_| unexpected(&text))
}

/// Microseconds since 1970 as RFC 3339 in UTC, with whole seconds.
fn rfc3339(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// Limits the time of `work` on the store: a connection may break without an error.
pub(crate) async fn within<T, E>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ConversionStoreError>
where
    ConversionStoreError: From<E>,
{
    match timeout(QUERY_TIMEOUT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ConversionStoreError::TimedOut(QUERY_TIMEOUT)),
    }
}

/// The key of a row: a hash of the parts that identify it. Each is hashed with its length, so that different parts never
/// give the same input.
fn identity(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
