//! Files on disk: blocks, the checkpoint that states which of them ClickHouse has, and reports that are not evaluated
//! yet.
//!
//! Invariant: nothing here interprets events or connects to ClickHouse.

mod block;
mod checkpoint;
mod damaged;
mod identity;
mod reports;
mod sealed;
mod spool;
#[cfg(test)]
mod tests;

pub(crate) use block::{Block, Entry};
pub(crate) use checkpoint::Checkpoint;
pub(crate) use reports::{PendingReports, RecoveredReports, ReportFiles};
pub(crate) use spool::{DataDirError, Recovered, Spool};
