//! The protocol that ships events from edges to aggregators, and the state that each side keeps.
//!
//! Messages, their framing, sealed batches, the two state machines and the TLS configuration belong
//! here; event files, sockets and ClickHouse never do.
//! Invariant: the state machines have no clock and no network.
#![forbid(unsafe_code)]

mod dispute;
mod lanes;
mod message;
mod seal;
mod sender;
mod stream;
pub mod tls;
mod wire;

pub use dispute::{Dispute, DisputeKind, HeldSequences};
pub use lanes::{
    BatchDecision, ClaimResult, LaneBounds, LaneCheckpoint, LaneTable, OfferError, SequenceGap,
    TooManyLanes, UnknownLane,
};
pub use message::{
    Ack, AggregatorMessage, Batch, BatchHeader, EdgeMessage, Hello, InvalidHeader, LaneHello,
    LaneKey, LaneState, PROTOCOL_VERSION, Refuse, RefuseCode, SEQUENCE_LIMIT, VisitorSalt, Welcome,
};
pub use seal::{
    BatchSpan, DEFAULT_BATCH_BYTES, DEFAULT_MAX_BATCH_AGE, MAX_RAW_BYTES, OpenError, SealError,
    Sealer, open, verify_checksum,
};
pub use sender::{
    IN_FLIGHT_LIMITS, InFlight, InFlightLimits, ProtocolViolation, PushError, Release, Sender,
    SentLane,
};
pub use stream::{ReadError, WriteError, read_message, write_message};
pub use wire::{MAX_BATCH_MESSAGE_BYTES, MAX_CONTROL_MESSAGE_BYTES, MAX_LANES, Message, WireError};
