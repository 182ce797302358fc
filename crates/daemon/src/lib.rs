//! What both daemons need around their work: settings and other files of operators, private files and
//! their expiry, logs, admin endpoints, signals.
//!
//! Nothing about clicks, journals or ClickHouse belongs here.
#![forbid(unsafe_code)]

pub mod admin;
pub mod clock;
pub mod files;
pub mod findings;
pub mod logs;
pub mod private;
pub mod process_metrics;
pub mod retention;
pub mod settings;
pub mod stop;
