//! Errors of requests to ClickHouse.

use crate::settings::InvalidSettings;
use std::time::Duration;
use thiserror::Error;

/// Why an attempt failed. It is retried.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The settings of the database are invalid.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The tables could not be created or migrated.
    #[error("migrations: {0}")]
    Migrate(String),
    /// The database returned an error, or the connection failed. Whether the rows were stored is unknown.
    #[error("{0}")]
    ClickHouse(String),
    /// The database did not respond in time. Whether the rows were stored is unknown.
    #[error("ClickHouse did not respond within {} s", .0.as_secs())]
    TimedOut(Duration),
}
