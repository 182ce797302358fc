//! What an edge and an aggregator say to each other, and what each must remember of it.
//!
//! Messages, their framing, sealing, the two state machines and the TLS set-up belong here. Files
//! of events, sockets and ClickHouse never do: the state machines have no clock and no network.
#![forbid(unsafe_code)]

mod dispute;
mod lanes;
mod message;
mod seal;
mod sender;
mod stream;
pub mod tls;
mod wire;

pub use dispute::{Dispute, DisputeKind, Held};
pub use lanes::{
    Claim, Gap, LaneBounds, Lanes, OfferError, RememberedLane, TooManyLanes, UnknownLane, Verdict,
};
pub use message::{
    Ack, Batch, BatchHeader, EdgeMessage, Hello, InvalidHeader, LaneHello, LaneKey, LaneState,
    PROTOCOL, Refuse, RefuseCode, SEQUENCE_LIMIT, ToEdge, VisitorSalt, Welcome,
};
pub use seal::{
    BATCH_AGE, BATCH_BYTES, MAX_RAW_BYTES, OpenError, SealError, Sealer, Span, checksum_holds, open,
};
pub use sender::{IN_FLIGHT, InFlight, Limits, PushError, Release, Sender, SentLane, UnsoundAck};
pub use stream::{ReadError, WriteError, read_message, write_message};
pub use wire::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE, MAX_LANES, Message, WireError};
