//! Infrastructure of both daemons: settings and other operator files, private files and their expiry,
//! formats of state directories, logs, admin endpoints, process metrics and signals.
//!
//! Invariant: no knowledge of clicks, journals or ClickHouse.
#![forbid(unsafe_code)]

/// The end of each daemon's `--help`.
pub const HELP: &str = "The log goes to standard error. RUST_LOG filters it by level and module, such as RUST_LOG=warn \
                        (default: info).\nSettings: docs/configuration.md. Operation and errors: docs/operations.md.";

pub mod admin;
pub mod backoff;
pub mod check_report;
pub mod clock;
pub mod error_chain;
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
pub mod traces;
