//! The messages. Fields and variants are only ever appended within one protocol version: their
//! order is part of the binary form.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// The version that [`Hello::protocol`] carries.
pub const PROTOCOL: u16 = 2;

/// Every sequence of a journal is below this. A message that claims a higher one is refused: at a million
/// events a second it would take a hundred thousand years to get there.
pub const SEQUENCE_LIMIT: u64 = 1 << 62;

/// Names one lane of one journal of one node, permanently: each process of an edge writes a new journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneKey {
    /// The edge node.
    pub node: u16,
    /// The lane on it.
    pub lane: u8,
    /// The random id that the spool got when it was created.
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

/// What an edge says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeMessage {
    /// Said first, once.
    Hello(Hello),
    /// Events of one lane.
    Batch(Batch),
}

/// What an aggregator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToEdge {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// Events are in ClickHouse.
    Ack(Ack),
    /// Why the connection is about to be closed.
    Refuse(Refuse),
}

/// How an edge introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// The edge node.
    pub node: u16,
    /// Name and version of its software, for the log.
    pub software: String,
    /// Every lane that it will send.
    pub lanes: Vec<LaneHello>,
}

/// One lane that an edge will send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHello {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// Up to where an aggregator has acknowledged it; 0 for nothing. An aggregator that does not know the
    /// lane continues after this sequence; one that knows the lane ignores it.
    pub acknowledged: u64,
    /// Up to where the edge has deleted or skipped it; 0 for nothing, never above `acknowledged`.
    pub released: u64,
}

/// Where each lane of a [`Hello`] stands.
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
    /// From which the key of the period and all later states follow.
    pub state: [u8; 32],
}

impl fmt::Debug for VisitorSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorSalt")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// Where a lane stands at the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The highest sequence accepted; the edge goes on after it.
    pub received: u64,
    /// The highest sequence that ClickHouse has; never above `received`.
    pub taken: u64,
}

/// ClickHouse has everything of a lane up to and including `taken`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The highest sequence that ClickHouse has.
    pub taken: u64,
}

/// Why an aggregator ends the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// A [`RefuseCode`] as a number; one this build does not know is possible.
    pub code: u16,
    /// For the edge's log.
    pub message: String,
}

macro_rules! refuse_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $reason:literal;)*) => {
        /// The numbered reasons of a [`Refuse`]; also the code with which the connection is closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum RefuseCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl RefuseCode {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number sent.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The word used in logs and as a metric's label.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The reason with this number, if this build knows it.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

refuse_codes! {
    /// Another protocol version is needed.
    Protocol = 1, "protocol";
    /// Not a message, or not at this point of the conversation.
    Malformed = 2, "malformed";
    /// A message above its limit.
    TooLong = 3, "too_long";
    /// A batch whose payload does not match its checksum.
    Checksum = 4, "checksum";
    /// A batch whose header contradicts itself or a limit.
    Header = 5, "header";
    /// Events before this batch are missing.
    Gap = 6, "gap";
    /// A batch of a lane that the `Hello` did not name.
    UnknownLane = 7, "unknown_lane";
    /// Events in a format newer than the aggregator understands.
    Format = 8, "format";
    /// As many edges as are allowed are connected.
    TooManyEdges = 9, "too_many_edges";
    /// The aggregator is shutting down; come back.
    Stopping = 10, "stopping";
    /// The `Hello` took too long to arrive.
    Slow = 11, "slow";
    /// As many lanes as are allowed are known.
    TooManyLanes = 12, "too_many_lanes";
    /// The certificate does not name the node of the `Hello`.
    NodeMismatch = 20, "node_mismatch";
    /// A newer connection sends the same journal.
    Superseded = 21, "superseded";
    /// The certificate is revoked, has expired, or its authority is no longer trusted.
    Revoked = 22, "revoked";
}

/// A sealed run of one lane's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What it holds.
    pub header: BatchHeader,
    /// The journal's frames as they lie there, compressed with zstd.
    pub payload: Bytes,
}

/// What a batch holds. Its identity (lane, journal, `after`, `first`, `last`) is fixed when sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The version of the events' binary form.
    pub format_version: u16,
    /// The last sequence before `first` in the journal, or 0: nothing lies between the two.
    pub after: u64,
    /// The first sequence in the payload.
    pub first: u64,
    /// The last sequence in the payload.
    pub last: u64,
    /// How many events the payload holds; sequences may skip.
    pub events: u32,
    /// Length of the frames before compression.
    pub raw_bytes: u32,
    /// CRC-32C of the payload.
    pub crc: u32,
    /// When it was sealed, in microseconds since 1970.
    pub sealed_at: u64,
}

/// A header that no edge in order writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidHeader {
    /// `after < first <= last` does not hold.
    #[error("sequences out of order: after {after}, first {first}, last {last}")]
    Order {
        /// The header's `after`.
        after: u64,
        /// The header's `first`.
        first: u64,
        /// The header's `last`.
        last: u64,
    },
    /// No events, or more than there are sequences.
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
    #[error("sequence {0} is not below {max}, the end of every journal", max = SEQUENCE_LIMIT)]
    Sequence(u64),
    /// An empty payload, or one that would grow above the limit.
    #[error("{0} bytes of frames are not between 1 and {max}", max = crate::MAX_RAW_BYTES)]
    RawBytes(u32),
}

impl BatchHeader {
    /// The lane's full name, given the node that sent it.
    #[must_use]
    pub const fn key(&self, node: u16) -> LaneKey {
        LaneKey {
            node,
            lane: self.lane,
            journal: self.journal,
        }
    }

    /// Looks for contradictions; says nothing about the payload.
    ///
    /// # Errors
    /// When sequences, counts or lengths can't be true.
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
