//! The function for the KYC provider's webhooks: which affiliate was checked, and up to which tier.
//!
//! VerifyMy publishes no signature scheme that could be found: the headers of signature and time and the signed
//! text are settings. Nothing is stored: only the aggregator knows earlier messages.
#![forbid(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod component;
mod decide;
mod scheme;

pub use decide::{PATH, decide};
pub use functions_shared::{Decision, Reason, Refused, Request};
pub use scheme::{Scheme, Variables};
