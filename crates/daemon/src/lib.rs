//! Infrastructure of both daemons: settings and other operator files, private files and their expiry,
//! formats of state directories, logs, admin endpoints, process metrics and signals.
//!
//! Invariant: no knowledge of clicks, journals or ClickHouse.
#![forbid(unsafe_code)]

pub mod admin;
pub mod backoff;
pub mod check_report;
pub mod clock;
pub mod files;
pub mod health;
pub mod hosts;
pub mod logs;
pub mod manual;
pub mod notify;
pub mod private;
pub mod process_metrics;
pub mod reference;
pub mod retention;
pub mod settings;
pub mod signals;
pub mod state_directory;
