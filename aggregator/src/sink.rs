//! The one place that knows ClickHouse: turns blocks into columns and inserts them.

mod columns;
mod connection;
mod decode;
mod prepared;
mod quarantine;

pub(crate) use connection::{ClickHouse, SinkError};
pub(crate) use prepared::{Prepared, prepare};
pub(crate) use quarantine::Quarantine;
