//! What functions share: the request as a plain value, the numbered reasons, signatures, and, in a
//! component, input and output. What a message means never belongs here.
#![forbid(unsafe_code)]

mod decision;
#[cfg(target_arch = "wasm32")]
pub mod io;
pub mod proof;
mod reason;
mod request;

pub use decision::{Decision, Refusal, Refused};
pub use reason::Reason;
pub use request::{MAX_BODY_BYTES, Request, without_byte_order_mark};
