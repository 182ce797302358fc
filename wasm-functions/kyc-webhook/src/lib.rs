//! The function that takes the identity service's webhooks: who was checked, and up to which tier.
//!
//! VerifyMy publishes no scheme of signatures that could be found: which headers hold signature and time,
//! and what is signed, are settings. Nothing is kept: which message came before, only the centre knows.
#![forbid(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod component;
mod decide;
mod scheme;

pub use decide::{PATH, decide};
pub use functions_shared::{Decision, Reason, Refused, Request};
pub use scheme::{Scheme, Variables};
