//! Turns blocks into columns and inserts them into ClickHouse. Invariant: no other module contains ClickHouse code.

mod bench_support;
mod block_decoder;
mod clicks;
mod columns;
mod connection;
mod database;
mod decode;
mod history;
mod native;
mod quarantine;
mod reports;
mod servers;

#[doc(hidden)]
pub use bench_support::DecodedClicks;
pub(crate) use block_decoder::{BlockDecoder, PreparedBlock};
pub(crate) use clicks::Clicks;
pub use columns::Columns;
pub use connection::ClickHouse;
pub use database::{Database, Tables};
pub(crate) use quarantine::Quarantine;
pub(crate) use reports::{build as report_tables, time as report_time};
