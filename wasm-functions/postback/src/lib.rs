//! The function for advertisers' server-to-server postbacks in all supported dialects.
//!
//! Parsing and authentication are a pure function of the request and the advertiser's entry. Nothing is stored:
//! only the aggregator detects repeated reports.
#![forbid(unsafe_code)]

mod advertiser;
mod amount;
mod auth;
#[cfg(target_arch = "wasm32")]
mod component;
mod decide;
mod dialect;
#[cfg(not(target_arch = "wasm32"))]
mod file;
mod keys;
mod link_list;
mod mask;
mod parameters;
mod report;
mod route;
mod terms;

pub use advertiser::{Advertiser, alias};
pub use decide::{NeedsOffer, Postback, Step, Verified};
#[cfg(not(target_arch = "wasm32"))]
pub use file::{Mistake, entries};
pub use functions_shared::{Decision, Reason, Refusal, Refused, Request};
pub use keys::Keys;
#[cfg(not(target_arch = "wasm32"))]
pub use route::names_advertiser;
