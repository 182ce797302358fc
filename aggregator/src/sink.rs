//! The one place that knows ClickHouse: turns blocks into columns and inserts them.

mod clicks;
mod columns;
mod connection;
mod database;
mod decode;
mod history;
mod measured;
mod native;
mod prepared;
mod quarantine;
mod reports;

pub(crate) use clicks::Clicks;
pub use columns::Columns;
pub use connection::ClickHouse;
pub use database::{Database, Tables};
#[doc(hidden)]
pub use measured::DecodedClicks;
pub(crate) use prepared::{Prepared, Preparer};
pub(crate) use quarantine::Quarantine;
pub(crate) use reports::{build as report_tables, time as report_time};
