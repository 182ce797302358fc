//! Shared by functions: the request as a plain value, the numbered reasons, signatures, and the input and output of
//! a component. Invariant: no interpretation of messages here.
#![forbid(unsafe_code)]

mod decision;
#[cfg(target_arch = "wasm32")]
pub mod io;
mod reason;
mod request;
mod secret;

pub use decision::{Decision, Refusal, Refused};
pub use reason::Reason;
pub use request::{MAX_BODY_BYTES, Request, without_byte_order_mark};
pub use secret::Secret;
