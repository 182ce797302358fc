//! Reads the state that earlier processes and stores left in ClickHouse: the aggregator that wrote last, the reports
//! that have rows, and the states of conversions and affiliates.

pub use crate::report::Refunds;
use crate::sink_error::SinkError;
use std::collections::BTreeSet;
use std::future::Future;
use tokio::sync::mpsc;

/// The channel for pages of rows.
pub type Page<T> = mpsc::Sender<Vec<T>>;

/// The extent of the recorded reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordedCounts {
    /// Revisions of conversions.
    pub conversions: u64,
    /// Messages of identity providers.
    pub checks: u64,
    /// The highest epoch of a store that evaluated a conversion.
    pub highest_epoch: u64,
}

/// A conversion in its latest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownConversion {
    /// The advertiser that pays for it.
    pub advertiser: String,
    /// The id of its click.
    pub click_id: String,
    /// Its kind.
    pub kind: String,
    /// The advertiser's name of a custom kind, else empty.
    pub custom_kind: String,
    /// The advertiser's transaction id; may be empty.
    pub transaction: String,
    /// The epoch of the store that made the revision.
    pub epoch: u64,
    /// Counted from 1.
    pub revision: u32,
    /// The status.
    pub status: String,
    /// The payout, in the smallest unit of the currency.
    pub payout_minor: i64,
    /// The code of ISO 4217, or empty.
    pub currency: String,
    /// The refunds so far.
    pub refunds: Refunds,
    /// The time of the report, in microseconds since 1970.
    pub time: i64,
}

/// A message of an identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCheck {
    /// The provider.
    pub provider: String,
    /// The provider's id of the message.
    pub delivery: String,
    /// The affiliate.
    pub affiliate: String,
    /// The status.
    pub status: String,
    /// The tier that was checked.
    pub tier: u8,
    /// The time of the check, in microseconds since 1970.
    pub happened: i64,
    /// The time of the message, in microseconds since 1970.
    pub time: i64,
}

/// Where and when an event was logged. Two events with the same place, for example of a copied edge, differ in their
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace {
    /// The node number of the edge.
    pub node: u16,
    /// The lane.
    pub lane: u8,
    /// The journal id of the lane.
    pub journal: u64,
    /// The event's sequence.
    pub seq: u64,
    /// The time, in microseconds since 1970.
    pub time: u64,
}

/// The claim of a spool to insert blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolClaim {
    /// Increases with each spool that takes over.
    pub generation: u64,
    /// The spool's random id.
    pub spool: u64,
}

/// The queries of a database.
pub trait History: Send + Sync {
    /// The newest claim of an instance, if there is one.
    ///
    /// # Errors
    /// When ClickHouse can't respond now.
    fn latest_claim(
        &self,
        instance: &str,
    ) -> impl Future<Output = Result<Option<SpoolClaim>, SinkError>> + Send;

    /// Adds a claim. Repeating it changes nothing.
    ///
    /// # Errors
    /// When ClickHouse can't confirm it now. The claim may have been added anyway.
    fn claim(
        &self,
        instance: &str,
        claim: SpoolClaim,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// The extent of the recorded reports.
    ///
    /// # Errors
    /// When ClickHouse can't respond now.
    fn recorded(&self) -> impl Future<Output = Result<RecordedCounts, SinkError>> + Send;

    /// The places among `places` that have a row.
    ///
    /// # Errors
    /// When ClickHouse can't respond now.
    fn stored(
        &self,
        places: &[EventPlace],
    ) -> impl Future<Output = Result<BTreeSet<EventPlace>, SinkError>> + Send;

    /// Sends all conversions; ends early if the receiver is dropped.
    ///
    /// # Errors
    /// When the query fails before its end.
    fn conversions(
        &self,
        pages: Page<KnownConversion>,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Sends all messages of identity providers; ends early if the receiver is dropped.
    ///
    /// # Errors
    /// When the query fails before its end.
    fn checks(&self, pages: Page<KnownCheck>)
    -> impl Future<Output = Result<(), SinkError>> + Send;
}
