//! Runs Spin components in this process: which there are, their limits, what they may reach, and what
//! is said when one fails.
//!
//! Only this crate knows wasmtime. Who calls a function, and what its calls to `tracker.internal` do,
//! never belongs here.
#![forbid(unsafe_code)]

mod answer;
mod body;
mod call;
mod cpu;
mod engine;
mod failure;
mod guest;
mod host;
mod manifest;
mod metrics;
mod offered;
mod outbound;
mod request;
mod route;
mod stderr;
mod threads;

pub use body::{Body, BodyError};
pub use failure::Failure;
pub use host::{Host, Limits, Matched, Settings};
pub use manifest::{LoadError, Manifest};
pub use outbound::{Internal, InternalAnswer};
