//! The aggregator: receives batches from edges over QUIC and inserts each event into ClickHouse once.
//!
//! `ingest` manages connections, `blocks` files, and `ingest_queue` the state that both share. `outgoing` sends
//! postbacks to affiliates.
//!
//! Invariants: only `sink` contains ClickHouse code, only `store` SQL, and only `outgoing` connects to servers of
//! others. Nothing here depends on what an edge does before it sends.
#![forbid(unsafe_code)]

mod admin_api;
mod aggregator;
mod attribution;
mod blocks;
mod check;
mod click;
mod configuration;
mod error_chain;
mod fair_queue;
mod fatal;
mod fence;
mod fleet;
#[doc(hidden)]
pub mod fuzz_support;
mod health;
mod history;
mod ingest;
mod ingest_queue;
mod lock;
mod maintenance;
mod metrics;
mod outgoing;
mod phase;
mod pipeline;
pub mod reference;
mod report;
mod report_queue;
mod row_outcomes;
mod set_aside;
pub mod settings;
mod sink;
mod sink_error;
mod start_error;
mod startup;
mod store;
mod store_watch;
mod unproven;
mod verification;

pub use aggregator::{Aggregator, Edges};
pub use check::check;
pub use fatal::FatalError;
pub use history::{
    EventPlace, History, KnownCheck, KnownConversion, Page, RecordedCounts, Refunds, SpoolClaim,
};
pub use lock::DirectoryInUse;
pub use maintenance::{MaintenanceError, backup, copy_store, rebuild_store, restore};
pub use outgoing::{OutgoingError, SubscriptionsError};
#[doc(hidden)]
pub use sink::DecodedClicks;
pub use sink::{ClickHouse, Columns, Database, Tables};
pub use sink_error::SinkError;
pub use start_error::StartError;
pub use startup::{AggregatorHandle, start};
pub use store::RebuildSummary;
pub use verification::ReportsError;
