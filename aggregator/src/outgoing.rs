//! Postbacks to affiliates: each revision of a conversion is sent to the subscriber of its campaign, until it is
//! accepted or given up.
//!
//! The store queues postbacks in the transaction that evaluates the conversion; `dispatcher` sends them from there. A
//! receiver may get a postback twice, after a crash during its delivery, and recognises it by the postback's id.

mod address;
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

pub(crate) use dispatcher::PostbackDispatcher;
pub(crate) use metrics::DispatchMetrics;
pub use subscriptions::SubscriptionsError;

use crate::settings;
use crate::sink_error::SinkError;
use subscriptions::SubscriptionFile;
use thiserror::Error;

/// Checks the subscriptions file and nothing else.
///
/// # Errors
/// When the file can't be used.
pub(crate) fn check(settings: &settings::Outgoing) -> Result<(), SubscriptionsError> {
    SubscriptionFile::read(&settings.postbacks).map(drop)
}

/// Why postbacks can't be sent.
#[derive(Debug, Error)]
pub enum OutgoingError {
    /// The subscriptions file is invalid.
    #[error(transparent)]
    Subscriptions(#[from] SubscriptionsError),
    /// The settings of ClickHouse are invalid.
    #[error(transparent)]
    ClickHouse(#[from] SinkError),
    /// Metrics can't be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}
