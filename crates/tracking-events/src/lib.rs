//! The event model, its binary format and the click id.
//!
//! Definitions of tracked requests and reported sales that all components share belong here; the values that they
//! consist of, such as ids and money, are in `domain`. Files, sockets, clocks and ClickHouse never do.
#![forbid(unsafe_code)]

mod click_id;
mod codec;
mod event;
mod reports;
mod version_2;
mod version_3;

pub use click_id::{
    CLICK_ID_CHARS, ClickId, ClickIdError, ClickIdParts, ClickIdText, InvalidKeyId, KeyId, KeyRing,
    MacKey, MissingKey, OLD_CLICK_ID_CHARS,
};
pub use codec::{
    DecodeError, EncodeError, FORMAT_VERSION, MAX_EVENT_BYTES, MIN_EVENT_BYTES, decode, encode,
};
pub use event::{Device, Event, Flags, Geo, Link, SUB_COUNT, UserAgent, Visit};
pub use reports::{Conversion, KycUpdate, Rejection, SignedRequest, Stated};
