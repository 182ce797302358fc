//! The one place that knows ClickHouse: turns blocks into columns and inserts them.

mod columns;
mod connection;
mod decode;
mod measured;
mod native;
mod prepared;
mod quarantine;

pub(crate) use columns::Columns;
pub(crate) use connection::{ClickHouse, SinkError};
#[doc(hidden)]
pub use measured::DecodedClicks;
pub(crate) use prepared::{Prepared, Preparer};
pub(crate) use quarantine::Quarantine;
