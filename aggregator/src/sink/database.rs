//! What the pipeline asks of a database. Which one it is, is not known here.

use super::columns::Columns;
use crate::history::History;
use crate::settings::InvalidSettings;
use std::future::Future;
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

/// Where blocks go.
pub trait Database: Send + Sync {
    /// What a connection gives.
    type Tables: Tables;

    /// Finds out whether the database answers, and makes the tables or brings them up to date.
    ///
    /// # Errors
    /// When that is not possible now.
    fn connect(&self) -> impl Future<Output = Result<Self::Tables, SinkError>> + Send;
}

/// The tables that blocks are inserted into.
pub trait Tables: History {
    /// Inserts `block` into `table` whole. Repeating it with the same token, which names exactly these
    /// rows, is harmless.
    ///
    /// # Errors
    /// When that is not possible now. The rows may have been taken all the same.
    fn insert(
        &self,
        table: &str,
        token: &str,
        block: &Columns,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}
