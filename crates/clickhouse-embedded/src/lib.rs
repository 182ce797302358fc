//! Runs a local ClickHouse in a separate process: finds it, restricts its access, starts and stops it.
//!
//! Free ports for it and other test servers belong here, too; tables and queries never do.
#![deny(unsafe_code)]

mod config;
mod credentials;
mod launch;
mod library;
mod locate;
mod ports;
mod serve;

pub use credentials::{Credentials, User};
pub use launch::{Launch, RunningEngine, StartError, launcher_exe};
pub use locate::{Engine, LocateError, locate};
pub use ports::free_port;
pub use serve::{ServeError, serve};
