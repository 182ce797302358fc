//! The interface of a database, for the pipeline. Invariant: no ClickHouse code here.

use super::columns::Columns;
use crate::history::History;
use crate::sink_error::SinkError;
use std::future::Future;

/// A database that stores blocks.
pub trait Database: Send + Sync {
    /// The connected database.
    type Tables: Tables;

    /// Connects, and creates or migrates the tables.
    ///
    /// # Errors
    /// When that is not possible now.
    fn connect(&self) -> impl Future<Output = Result<Self::Tables, SinkError>> + Send;
}

/// The tables of a connected database.
pub trait Tables: History {
    /// Inserts all of `block` into `table`. Repeating it with the same token, which stands for exactly these rows,
    /// changes nothing.
    ///
    /// # Errors
    /// When ClickHouse can't confirm it now. The rows may have been stored anyway.
    fn insert(
        &self,
        table: &str,
        token: &str,
        block: &Columns,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}
