//! Why a request to ClickHouse failed.

use crate::settings::InvalidSettings;
use std::time::Duration;
use thiserror::Error;

/// An attempt that failed; it is made again.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The settings that say where the database is.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The tables could not be made or brought up to date.
    #[error("migrations: {0}")]
    Migrate(String),
    /// The database said so, or the way to it broke. Whether the rows were taken is unknown.
    #[error("{0}")]
    ClickHouse(String),
    /// Nothing came back in time. Whether the rows were taken is unknown.
    #[error("ClickHouse did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}
