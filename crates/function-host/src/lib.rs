//! Runs Spin components in this process: loads them from a manifest, calls them within limits, and reports failures
//! by number.
//!
//! Invariant: only this crate uses wasmtime. The purpose of a function, and the effect of its requests to
//! `tracker.internal`, belong to the caller.
#![forbid(unsafe_code)]

mod call;
mod cpu;
mod deployment;
mod dispatch;
mod engine;
mod epoch_clock;
mod failure;
mod function;
mod guest;
mod host;
mod host_imports;
mod host_state;
mod instance;
mod manifest;
mod metrics;
mod outbound;
mod request_body;
mod response_body;
mod response_sender;
mod route;
mod scheduling;
mod settings;
mod spin_headers;
mod stderr;
mod threads;

pub use deployment::MatchedFunction;
pub use failure::Failure;
pub use host::Host;
pub use host_imports::KeyValues;
pub use manifest::{LoadError, Manifest};
pub use metrics::describe as describe_metrics;
pub use outbound::{InternalResponse, InternalService};
pub use response_body::{Body, BodyError};
pub use settings::{Limits, Settings};
