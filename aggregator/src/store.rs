//! The one place that knows SQL: how conversions and affiliates stand, in SQLite or PostgreSQL.
//!
//! A block's reports are judged in one transaction, and each verdict is remembered with the event's place:
//! the same block always gets the same verdicts. ClickHouse is not known here.

mod affiliates;
mod applied;
mod conversions;
mod limits;
mod outbox;
mod signed;
mod sql;
#[cfg(test)]
mod tests;

pub(crate) use outbox::{Attempt, Awaiting, Claimed, End, Key, ReceiverIs, Sale, Search};

use crate::report::{Placed, Verdict};
use crate::settings::Settings;
use crate::verification::{Evidence, Proof, SetAside, Unproven, UnprovenReason, Verification};
use sql::{Pool, Tx};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, OnceCell};
use tokio::time::timeout;
use tracking_events::{Event, Micros};

/// A block may take this long, and a report of it this long on top.
const BLOCK: Duration = Duration::from_secs(60);
const REPORT: Duration = Duration::from_millis(20);
/// Anything else may take this long.
const ANSWER: Duration = Duration::from_secs(30);

/// The store can't be used now.
#[derive(Debug, Error)]
pub(crate) enum LedgerError {
    /// The URL's form; it may hold a password, so it is not repeated.
    #[error("[store] url must be postgres://user:password@host:port/database")]
    Url,
    /// The database said so, or the way to it broke.
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    /// Its tables could not be made or brought up to date.
    #[error("migrations: {0}; if the store is newer than this aggregator, upgrade the aggregator")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A word in the tables that no version of ours writes.
    #[error("the store says {0:?}, which is no word of ours; restore it from a copy")]
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
pub(crate) enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// A URL of PostgreSQL, with its password.
    Url(String),
}

impl Place {
    pub(crate) fn of(settings: &Settings) -> Self {
        match &settings.store.url {
            Some(url) => Self::Url(url.reveal().to_owned()),
            None => Self::File(settings.data_dir.join("store.sqlite")),
        }
    }
}

/// Judges reports. It is opened when the first one comes.
pub(crate) struct Ledger {
    place: Place,
    /// Whether affiliates are told of what is judged.
    announces: bool,
    /// How reports are verified again, if they are.
    verification: Option<Verification>,
    pool: OnceCell<Pool>,
    announced: Notify,
}

impl Ledger {
    pub(crate) const fn new(place: Place, announces: bool) -> Self {
        Self {
            place,
            announces,
            verification: None,
            pool: OnceCell::const_new(),
            announced: Notify::const_new(),
        }
    }

    /// Evaluates only what can be verified again.
    pub(crate) fn verifying(mut self, verification: Option<Verification>) -> Self {
        self.verification = verification;
        self
    }

    /// Says what becomes of each report of a block: all of it is kept, or nothing is.
    pub(crate) async fn judge(&self, reports: &[Placed<'_>]) -> Result<Vec<Verdict>, LedgerError> {
        if !reports.iter().any(Placed::needs_judgement) {
            return Ok(vec![Verdict::Noted; reports.len()]);
        }
        let limit = BLOCK + REPORT * u32::try_from(reports.len()).unwrap_or(u32::MAX);
        let judged = timeout(limit, self.judge_all(reports)).await;
        judged.map_err(|_| LedgerError::Silent(limit))?
    }

    async fn judge_all(&self, reports: &[Placed<'_>]) -> Result<Vec<Verdict>, LedgerError> {
        let evidence = match &self.verification {
            Some(verification) => Some(verification.current().await),
            None => None,
        };
        let mut screening = Screening {
            verification: self.verification.as_ref().zip(evidence.as_deref()),
            set_aside: SetAside::default(),
        };
        let mut tx = self.begin().await?;
        let announce = self.announces.then(Micros::now);
        let mut verdicts = Vec::with_capacity(reports.len());
        for report in reports {
            verdicts.push(judge_one(&mut tx, report, announce, &mut screening).await?);
        }
        tx.commit().await?;
        if let Some((verification, _)) = screening.verification {
            verification.report(&screening.set_aside);
        }
        self.announced.notify_one();
        Ok(verdicts)
    }

    /// Returns when something was judged since the last time.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    async fn begin(&self) -> Result<Tx, LedgerError> {
        let pool = self.pool.get_or_try_init(|| Pool::open(&self.place));
        pool.await?.begin().await
    }
}

/// Gives up `work` on the store that takes too long: the way to it may have broken without a word.
pub(crate) async fn within<T>(
    work: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    let done = timeout(ANSWER, work).await;
    done.map_err(|_| LedgerError::Silent(ANSWER))?
}

/// Keeps reports that can't be verified from being evaluated.
#[derive(Default)]
struct Screening<'a> {
    verification: Option<(&'a Verification, &'a Evidence)>,
    set_aside: SetAside,
}

impl Screening<'_> {
    /// What becomes of a report that is not to be evaluated.
    async fn screen(
        &mut self,
        tx: &mut Tx,
        report: &Placed<'_>,
    ) -> Result<Option<Verdict>, LedgerError> {
        let Some((verification, evidence)) = self.verification else {
            return Ok(None);
        };
        let unproven = match (evidence.verify(report), &report.event) {
            (Proof::ValidOnce(identity), _) => {
                let earlier = signed::earlier(tx, &identity, report, Micros::now()).await?;
                return Ok(earlier.map(Verdict::Repeat));
            }
            (Proof::SharedSecret, Event::Conversion(conversion)) => {
                let (node, limits) = (report.key.node, evidence.limits());
                let beyond = limits::charge(tx, node, conversion, limits, Micros::now()).await?;
                let limit = UnprovenReason::UnsignedLimit;
                beyond.map(|beyond| Unproven::conversion(limit, beyond, conversion))
            }
            (Proof::Complete | Proof::SharedSecret, _) => None,
            (Proof::UnknownClickKey(_), _) if verification.may_wait() => {
                return Err(LedgerError::UnknownClickKey);
            }
            (Proof::UnknownClickKey(unproven) | Proof::None(unproven), _) => Some(unproven),
        };
        if let Some(unproven) = &unproven {
            self.set_aside.add(report.key.node, unproven.reason);
        }
        Ok(unproven.map(Verdict::Unproven))
    }
}

async fn judge_one(
    tx: &mut Tx,
    report: &Placed<'_>,
    announce: Option<Micros>,
    screening: &mut Screening<'_>,
) -> Result<Verdict, LedgerError> {
    if !report.needs_judgement() {
        return Ok(Verdict::Noted);
    }
    if let Some(verdict) = applied::recall(tx, report).await? {
        return Ok(verdict);
    }
    if let Some(verdict) = screening.screen(tx, report).await? {
        applied::remember(tx, report, &verdict).await?;
        return Ok(verdict);
    }
    let verdict = match &report.event {
        Event::Conversion(conversion) => {
            let (identity, verdict) = conversions::judge(tx, conversion).await?;
            if let (Some(revision), Some(now)) = (verdict.news(), announce) {
                outbox::enqueue(tx, &identity, revision, now).await?;
            }
            verdict
        }
        Event::KycUpdate(update) => affiliates::judge(tx, update).await?,
        _ => Verdict::Noted,
    };
    applied::remember(tx, report, &verdict).await?;
    Ok(verdict)
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
