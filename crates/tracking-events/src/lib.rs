//! The event model, its binary format and the click id.
//!
//! Definitions of tracked requests and reported sales that all components share belong here. Files,
//! sockets, clocks and ClickHouse never do.
#![forbid(unsafe_code)]

mod click_id;
mod codec;
mod event;
mod money;
mod units;
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
pub use money::{
    Conversion, ConversionKind, ConversionStatus, KycStatus, KycUpdate, Money, Rejection,
    SignedRequest, Stated, TIERS, Tier,
};
pub use units::{CostMicros, LaneId, LinkId, Micros, NodeId, Seq, VisitorId};
