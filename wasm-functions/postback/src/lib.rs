//! The function that takes advertisers' server-to-server postbacks, whatever dialect they speak.
//!
//! What a postback says and whether it is believed is decided here, as a plain function of the request
//! and the advertiser's entry. Nothing is kept: whether it was reported before, only the centre knows.
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
mod mask;
mod parameters;
mod report;
mod route;
mod terms;

pub use advertiser::{Advertiser, alias};
pub use decide::{Keys, NeedsOffer, Postback, Step, Verified};
#[cfg(not(target_arch = "wasm32"))]
pub use file::{Mistake, entries};
pub use functions_shared::{Decision, Reason, Refusal, Refused, Request};
#[cfg(not(target_arch = "wasm32"))]
pub use route::names_advertiser;
