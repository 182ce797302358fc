//! Blocks on disk: which batches make which insert, up to where ClickHouse has each lane, and which
//! reports are not evaluated yet.
//! What an event is, and ClickHouse, are not known here.

mod block;
mod checkpoint;
mod damaged;
mod identity;
mod reports;
mod sealed;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use block::{Block, Entry};
pub(crate) use checkpoint::Checkpoint;
pub(crate) use reports::{PendingReports, RecoveredReports, ReportFiles};
pub(crate) use store::{Recovered, Store, StoreError};
