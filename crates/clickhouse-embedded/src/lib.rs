//! A local ClickHouse in a process of its own: where to find it, how to lock it down, how to run it.
//!
//! Only starting and stopping the engine belongs here, with the ports for it and its companions;
//! tables and queries never do.
#![deny(unsafe_code)]

mod config;
mod credentials;
mod launch;
mod library;
mod locate;
mod ports;
mod serve;

pub use credentials::{Credentials, User};
pub use launch::{Launch, Running, StartError, launcher_exe};
pub use locate::{Engine, LocateError, locate};
pub use ports::free_port;
pub use serve::{ServeError, serve};
