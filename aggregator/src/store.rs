//! The one place that knows SQL: how conversions and affiliates stand, in SQLite or PostgreSQL.
//!
//! A block's reports are judged in one transaction, and each verdict is remembered with the event's place and hash:
//! the same block always gets the same verdicts. ClickHouse is known only as the history that a new store
//! takes over.

mod affiliates;
mod clicks;
mod conversions;
mod copy;
mod epoch;
mod evaluation;
mod idempotency;
mod limits;
mod outbox;
mod rebuild;
mod sql;
mod standing;
mod steady;
#[cfg(test)]
mod tests;

pub(crate) use clicks::{AwaitedClick, ClickSearch};
pub(crate) use copy::{copy as copy_store, holds_state};
pub(crate) use epoch::{Epoch, EstablishError, Rebuild};
pub(crate) use outbox::{
    Attempt, Awaiting, End, EndpointHealth, Key, LeasedPostback, Sale, Search,
};
pub use rebuild::Rebuilt;

use crate::report::{LocatedEvent, Verdict};
use crate::settings::Settings;
use crate::verification::Verification;
use evaluation::Evaluator;
use prometheus::IntCounter;
use sql::{Pool, Tx};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use steady::SteadyClock;
use thiserror::Error;
use tokio::sync::{Notify, OnceCell};
use tokio::time::timeout;

/// The limit for a block without reports, and what each of its reports adds.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);
const PER_REPORT_TIMEOUT: Duration = Duration::from_millis(20);
/// The limit for everything else.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The store can't be used now.
#[derive(Debug, Error)]
pub(crate) enum ConversionStoreError {
    /// The URL's form; it may hold a password, so it is not repeated.
    #[error("[store] url must be postgres://user:password@host:port/database")]
    Url,
    /// The database said so, or the way to it broke.
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    /// Only a file can be copied.
    #[error("PostgreSQL's tables are copied with pg_dump")]
    NoFile,
    /// A store is copied to where none is.
    #[error("the database of [store] url holds a store already; name an empty one")]
    Occupied,
    /// Its tables could not be made or brought up to date.
    #[error("migrations: {0}; if the store is newer than this aggregator, upgrade the aggregator")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A word in the tables that no version of ours writes.
    #[error("unexpected value {0:?} in the store; restore it from a backup")]
    Foreign(String),
    /// A report waits for a key that is perhaps on its way here.
    #[error(
        "a conversion's click id has a key that is not known here: copy the edges' secrets to the file that \
         [reports] secrets names; the report waits for unknown_key_wait"
    )]
    UnknownClickKey,
    /// Nothing came back in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// Where the tables are.
#[derive(Clone)]
pub(crate) enum StoreLocation {
    /// A file of SQLite.
    File(PathBuf),
    /// A URL of PostgreSQL, with its password.
    Url(String),
}

impl StoreLocation {
    pub(crate) fn of(settings: &Settings) -> Self {
        match &settings.store.url {
            Some(url) => Self::Url(url.reveal().to_owned()),
            None => Self::File(settings.store_file()),
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) verdict: Verdict,
    /// The same report was evaluated before; ClickHouse may have its rows.
    pub(crate) is_repeated: bool,
}

/// Judges reports. Its database is opened when it is first used.
pub(crate) struct ConversionStore {
    place: StoreLocation,
    /// Whether affiliates are told of what is judged.
    announces: bool,
    /// How reports are verified again, if they are.
    verification: Option<Verification>,
    pool: OnceCell<Pool>,
    /// Known once the store was established.
    epoch: OnceCell<Epoch>,
    steady: OnceCell<SteadyClock>,
    announced: Notify,
    place_conflicts: IntCounter,
}

impl ConversionStore {
    pub(crate) fn new(place: StoreLocation, announces: bool) -> Self {
        let place_conflicts = IntCounter::new(
            "aggregator_place_conflicts_total",
            "Reports from a place that another report came from before: a copied edge or a stolen certificate.",
        );
        Self {
            place,
            announces,
            verification: None,
            pool: OnceCell::const_new(),
            epoch: OnceCell::const_new(),
            steady: OnceCell::const_new(),
            announced: Notify::const_new(),
            place_conflicts: place_conflicts.expect("its name is valid"),
        }
    }

    /// Evaluates only what can be verified again.
    pub(crate) fn verifying(mut self, verification: Option<Verification>) -> Self {
        self.verification = verification;
        self
    }

    /// Counts reports whose place was another report's.
    pub(crate) const fn place_conflicts(&self) -> &IntCounter {
        &self.place_conflicts
    }

    /// The verdicts of [`ConversionStore::evaluate`] alone.
    #[cfg(test)]
    pub(crate) async fn judge(
        &self,
        reports: &[LocatedEvent<'_>],
    ) -> Result<Vec<Verdict>, ConversionStoreError> {
        let evaluated = self.evaluate(reports).await?;
        Ok(evaluated.into_iter().map(|it| it.verdict).collect())
    }

    /// Says what becomes of each report of a block: all of it is kept, or nothing is.
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
        let judged = timeout(limit, self.evaluate_all(reports)).await;
        judged.map_err(|_| ConversionStoreError::Silent(limit))?
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
        let announced_at = match self.announces {
            true => Some(self.steady_clock(domain::Micros::now()).await?.now()),
            false => None,
        };
        let mut tx = self.begin().await?;
        let mut evaluator = Evaluator::new(announced_at, verification);
        let mut evaluated = Vec::with_capacity(reports.len());
        for report in reports {
            evaluated.push(evaluator.evaluate(&mut tx, report).await?);
        }
        tx.commit().await?;
        self.place_conflicts.inc_by(evaluator.place_conflicts);
        if let Some((verification, _)) = verification {
            verification.report(&evaluator.set_aside);
        }
        self.announced.notify_one();
        Ok(evaluated)
    }

    /// Returns when something was judged since the last time.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    /// Copies SQLite's file to `to` as one moment has it, while others use it.
    pub(crate) async fn copy_to(&self, to: &Path) -> Result<(), ConversionStoreError> {
        let pool = self.pool.get_or_try_init(|| Pool::open(&self.place));
        pool.await?.copy_to(to).await
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), ConversionStoreError> {
        let pool = self.pool.get_or_try_init(|| Pool::open(&self.place));
        pool.await?.ping().await
    }

    async fn begin(&self) -> Result<Tx, ConversionStoreError> {
        let pool = self.pool.get_or_try_init(|| Pool::open(&self.place));
        pool.await?.begin().await
    }
}

/// Microseconds since 1970 as people write a time (RFC 3339, UTC, whole seconds).
fn rfc3339(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// Gives up `work` on the store that takes too long: the way to it may have broken without a word.
pub(crate) async fn within<T>(
    work: impl Future<Output = Result<T, ConversionStoreError>>,
) -> Result<T, ConversionStoreError> {
    let done = timeout(QUERY_TIMEOUT, work).await;
    done.map_err(|_| ConversionStoreError::Silent(QUERY_TIMEOUT))?
}

/// What finds a row: a hash of what makes it one, each part with its length, so that parts can't be shifted
/// into one another.
fn identity(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
