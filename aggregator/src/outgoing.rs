//! Postbacks to affiliates: each revision of a conversion is sent to the subscriber of its campaign, until it is
//! accepted or given up.
//!
//! The store queues them in the transaction that judges the conversion; `dispatcher` takes them from there.
//! A receiver may be told twice (after a crash in between) and can tell by the postback's id.

mod address;
mod amount;
mod backoff;
mod client;
mod connect;
mod dispatcher;
mod egress_policy;
mod message;
mod metrics;
mod redirect;
mod subscriptions;
#[cfg(test)]
mod tests;

pub(crate) use backoff::next_search;
pub(crate) use dispatcher::PostbackDispatcher;
pub use subscriptions::SubscriptionsError;

use crate::settings;
use crate::sink_error::SinkError;
use subscriptions::SubscriptionFile;
use thiserror::Error;

/// Reads the file of subscriptions, and only that.
///
/// # Errors
/// When it can't be used.
pub(crate) fn check(settings: &settings::Outgoing) -> Result<(), SubscriptionsError> {
    SubscriptionFile::read(&settings.postbacks).map(drop)
}

/// Affiliates can't be told of anything.
#[derive(Debug, Error)]
pub enum OutgoingError {
    /// The file of subscriptions.
    #[error(transparent)]
    Subscriptions(#[from] SubscriptionsError),
    /// What ClickHouse wants to know of us.
    #[error(transparent)]
    ClickHouse(#[from] SinkError),
    /// Metrics can't be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}
