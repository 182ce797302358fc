//! What the pipeline asks of a database. Which one it is, is not known here.

use super::columns::Columns;
use crate::history::History;
use crate::sink_error::SinkError;
use std::future::Future;

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
