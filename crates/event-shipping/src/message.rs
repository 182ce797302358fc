//! The messages of the protocol. Within one protocol version fields and variants are only appended,
//! because their order is part of the binary format.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// The protocol version in [`Hello::protocol`].
pub const PROTOCOL_VERSION: u16 = 2;

/// Every sequence of a journal is below this limit; a message with a higher one is rejected. At a million
/// events a second a lane would reach it after a hundred thousand years.
pub const SEQUENCE_LIMIT: u64 = 1 << 62;

/// The permanent name of one lane of one journal of one node: each process of an edge writes a new
/// journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneKey {
    /// The edge node.
    pub node: u16,
    /// The lane on the node.
    pub lane: u8,
    /// The random journal id.
    pub journal: u64,
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {} lane {} journal {:016x}",
            self.node, self.lane, self.journal
        )
    }
}

/// A message from an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeMessage {
    /// The first message of a connection, sent once.
    Hello(Hello),
    /// Events of one lane.
    Batch(Batch),
}

/// A message from an aggregator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AggregatorMessage {
    /// The response to [`Hello`].
    Welcome(Welcome),
    /// Events are stored in ClickHouse.
    Ack(Ack),
    /// The reason why the aggregator closes the connection.
    Refuse(Refuse),
}

/// An edge's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u16,
    /// The edge node.
    pub node: u16,
    /// Name and version of the edge's software, for the log.
    pub software: String,
    /// Every lane that the edge will send.
    pub lanes: Vec<LaneHello>,
}

/// One lane that an edge will send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHello {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The last acknowledged sequence; 0 for none. An aggregator that does not know the lane continues
    /// after this sequence; one that knows the lane ignores it.
    pub acknowledged: u64,
    /// The last sequence that the edge deleted or skipped; 0 for none, never above `acknowledged`.
    pub released: u64,
}

/// The state of each lane of a [`Hello`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// One entry for each lane of the `Hello`.
    pub lanes: Vec<LaneState>,
    /// The aggregator's time in microseconds since 1970; 0 when it does not trust its own clock.
    pub time_micros: u64,
    /// The fleet's visitor salt in the current period; never an earlier one.
    pub visitor_salt: Option<VisitorSalt>,
}

/// The state of the fleet's visitor salt. It is a secret: it has no text form.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorSalt {
    /// The length of a period in microseconds.
    pub period_micros: u64,
    /// The number of the period, counted from 1970 in UTC.
    pub period: u64,
    /// The secret from which the period's key and all later states are derived.
    pub state: [u8; 32],
}

impl fmt::Debug for VisitorSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorSalt")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// The state of a lane at the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The highest accepted sequence; the edge continues after it.
    pub received: u64,
    /// The highest sequence stored in ClickHouse; never above `received`.
    pub taken: u64,
}

/// An acknowledgement: ClickHouse stores every event of a lane up to and including `taken`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The highest sequence stored in ClickHouse.
    pub taken: u64,
}

/// An aggregator's last message, with the reason why it closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// The number of a [`RefuseCode`]; a newer aggregator may send a number unknown to this build.
    pub code: u16,
    /// A text for the edge's log.
    pub message: String,
}

numbered_reasons::numbered_reasons! {
    /// The numbered reasons of a [`Refuse`]; also the code with which the connection is closed.
    pub enum RefuseCode;

    /// The aggregator needs another protocol version. Upgrade the aggregator first.
    Protocol = 1, "protocol";
    /// Not a message, or a message that is not allowed at this point.
    Malformed = 2, "malformed";
    /// A message that exceeds its limit.
    TooLong = 3, "too_long";
    /// A batch whose payload does not match its checksum.
    Checksum = 4, "checksum";
    /// A batch whose header contradicts itself or a limit.
    Header = 5, "header";
    /// Events before this batch are missing.
    Gap = 6, "gap";
    /// A batch of a lane that the `Hello` did not name.
    UnknownLane = 7, "unknown_lane";
    /// Events in a format that is newer than the aggregator. Upgrade the aggregator first.
    Format = 8, "format";
    /// `limits.max_edges` edges are connected.
    TooManyEdges = 9, "too_many_edges";
    /// The aggregator is shutting down; the edge reconnects later.
    Stopping = 10, "stopping";
    /// The `Hello` did not arrive in time.
    Slow = 11, "slow";
    /// `limits.max_lanes` or `limits.max_lanes_per_node` is reached.
    TooManyLanes = 12, "too_many_lanes";
    /// The certificate does not name the node of the `Hello`. Issue the edge its own certificate; otherwise treat it as
    /// stolen.
    NodeMismatch = 20, "node_mismatch";
    /// A newer connection sends the same journal.
    Superseded = 21, "superseded";
    /// The certificate is revoked, has expired, or its authority is no longer trusted.
    Revoked = 22, "revoked";
}

impl RefuseCode {
    /// The reason with this number; `None` if this build does not know it.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|code| code.number() == number)
    }
}

/// A sealed batch of one lane's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The description of the events.
    pub header: BatchHeader,
    /// The journal's unmodified frames, compressed with zstd.
    pub payload: Bytes,
}

/// The description of a batch. Its identity (lane, journal, `after`, `first`, `last`) is fixed when it
/// is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The events' format version.
    pub format_version: u16,
    /// The last sequence before `first` in the journal, or 0; no event lies between the two.
    pub after: u64,
    /// The first sequence in the payload.
    pub first: u64,
    /// The last sequence in the payload.
    pub last: u64,
    /// The number of events; sequences may have gaps.
    pub events: u32,
    /// The length of the frames before compression.
    pub raw_bytes: u32,
    /// The CRC-32C of the payload.
    pub crc: u32,
    /// The time of sealing in microseconds since 1970.
    pub sealed_at: u64,
}

/// A header that a correct edge never writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidHeader {
    /// `after < first <= last` does not hold.
    #[error("the sequences are out of order: after {after}, first {first}, last {last}")]
    Order {
        /// The header's `after`.
        after: u64,
        /// The header's `first`.
        first: u64,
        /// The header's `last`.
        last: u64,
    },
    /// No events, or more events than sequences.
    #[error("{events} events can't lie between sequences {first} and {last}")]
    Events {
        /// The header's `events`.
        events: u32,
        /// The header's `first`.
        first: u64,
        /// The header's `last`.
        last: u64,
    },
    /// A sequence that no journal can have reached.
    #[error("sequence {0} is not below {max}, the limit of every journal", max = SEQUENCE_LIMIT)]
    Sequence(u64),
    /// A number of frame bytes that is 0 or exceeds the limit.
    #[error("{0} bytes of frames are not between 1 and {max}", max = crate::MAX_RAW_BYTES)]
    RawBytes(u32),
}

impl BatchHeader {
    /// The lane's permanent name; `node` is the sending node.
    #[must_use]
    pub const fn key(&self, node: u16) -> LaneKey {
        LaneKey {
            node,
            lane: self.lane,
            journal: self.journal,
        }
    }

    /// Checks the header for contradictions, without the payload.
    ///
    /// # Errors
    /// When sequences, counts or lengths are impossible.
    pub const fn validate(&self) -> Result<(), InvalidHeader> {
        let Self {
            after,
            first,
            last,
            events,
            raw_bytes,
            ..
        } = *self;
        if after >= first || first > last {
            return Err(InvalidHeader::Order { after, first, last });
        }
        if last >= SEQUENCE_LIMIT {
            return Err(InvalidHeader::Sequence(last));
        }
        if events == 0 || events as u64 - 1 > last - first {
            return Err(InvalidHeader::Events {
                events,
                first,
                last,
            });
        }
        if raw_bytes == 0 || raw_bytes as usize > crate::MAX_RAW_BYTES {
            return Err(InvalidHeader::RawBytes(raw_bytes));
        }
        Ok(())
    }
}
