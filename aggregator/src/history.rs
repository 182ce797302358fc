//! What ClickHouse knows of times before this process and its store: which aggregator wrote last, which
//! reports are there, and how conversions and affiliates stand.

pub use crate::report::Refunds;
use crate::sink_error::SinkError;
use std::collections::BTreeSet;
use std::future::Future;
use tokio::sync::mpsc;

/// Rows that travel together.
pub type Page<T> = mpsc::Sender<Vec<T>>;

/// How much was reported so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Revisions of conversions.
    pub conversions: u64,
    /// Messages of identity services.
    pub checks: u64,
    /// The highest epoch of a store that evaluated a conversion.
    pub highest_epoch: u64,
}

/// A conversion as its latest revision has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownConversion {
    /// Who pays for it.
    pub advertiser: String,
    /// The click it is due to.
    pub click_id: String,
    /// Its kind.
    pub kind: String,
    /// The advertiser's word where the kind is custom, else empty.
    pub custom_kind: String,
    /// The advertiser's number; may be empty.
    pub transaction: String,
    /// The epoch of the store that made the revision.
    pub epoch: u64,
    /// From 1.
    pub revision: u32,
    /// Its status.
    pub status: String,
    /// In the smallest unit of the currency.
    pub payout_minor: i64,
    /// Three letters, or empty.
    pub currency: String,
    /// What refunds have taken back.
    pub refunds: Refunds,
    /// When it was reported, in microseconds since 1970.
    pub time: i64,
}

/// A message of an identity service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCheck {
    /// The service.
    pub provider: String,
    /// Its number of the message.
    pub delivery: String,
    /// The person.
    pub affiliate: String,
    /// What it says.
    pub status: String,
    /// The tier that was checked.
    pub tier: u8,
    /// When it happened, in microseconds since 1970.
    pub happened: i64,
    /// When it arrived, in microseconds since 1970.
    pub time: i64,
}

/// Where and when an event was logged: two events that share a place, on a copied edge for example, differ in
/// their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace {
    /// The edge.
    pub node: u16,
    /// Its lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The event's sequence.
    pub seq: u64,
    /// In microseconds since 1970.
    pub time: u64,
}

/// Which spool may insert blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolClaim {
    /// Grows with each spool that takes over.
    pub generation: u64,
    /// The spool's random id.
    pub spool: u64,
}

/// The part of the database that is read.
pub trait History: Send + Sync {
    /// The newest claim of an instance, if there is one.
    ///
    /// # Errors
    /// When that can't be told now.
    fn latest_claim(
        &self,
        instance: &str,
    ) -> impl Future<Output = Result<Option<SpoolClaim>, SinkError>> + Send;

    /// Adds a claim; doing so again changes nothing.
    ///
    /// # Errors
    /// When that is not possible now. It may have been added all the same.
    fn claim(
        &self,
        instance: &str,
        claim: SpoolClaim,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// How much was reported so far.
    ///
    /// # Errors
    /// When that can't be told now.
    fn recorded(&self) -> impl Future<Output = Result<Recorded, SinkError>> + Send;

    /// Those of `places` that have a row.
    ///
    /// # Errors
    /// When that can't be told now.
    fn stored(
        &self,
        places: &[EventPlace],
    ) -> impl Future<Output = Result<BTreeSet<EventPlace>, SinkError>> + Send;

    /// Sends all conversions; ends early when the receiver is gone.
    ///
    /// # Errors
    /// When they can't be read to their end.
    fn conversions(
        &self,
        pages: Page<KnownConversion>,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Sends all messages of identity services; ends early when the receiver is gone.
    ///
    /// # Errors
    /// When they can't be read to their end.
    fn checks(&self, pages: Page<KnownCheck>)
    -> impl Future<Output = Result<(), SinkError>> + Send;
}
