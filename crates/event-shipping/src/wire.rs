//! The wire format of messages: a length (u32, little-endian) and a postcard body
//! (<https://postcard.jamesmunns.com/wire-format>).

use crate::{AggregatorMessage, EdgeMessage, LaneHello, SEQUENCE_LIMIT};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The maximum length of a batch message.
pub const MAX_BATCH_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// The maximum length of every other message.
pub const MAX_CONTROL_MESSAGE_BYTES: usize = 64 * 1024;

/// The maximum number of lanes in a `Hello`, so that the `Welcome` fits its limit.
pub const MAX_LANES: usize = 1024;

/// An upper limit of a batch message's bytes without the payload.
const MAX_HEADER_BYTES: usize = 128;

/// Bytes that are not the expected message, or a message that is too long to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The message exceeds its limit.
    #[error("a message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The message's length.
        length: usize,
        /// The maximum length.
        limit: usize,
    },
    /// The bytes are not a message of this protocol version.
    #[error("not a message of this protocol: {0}")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
    /// More lanes than [`MAX_LANES`].
    #[error("{0} lanes exceed the limit of {MAX_LANES}")]
    TooManyLanes(usize),
    /// A sequence that no journal can have reached, or `released` above `acknowledged`.
    #[error(
        "lane {lane} has acknowledged {acknowledged} and released {released}; released must not exceed \
         acknowledged, and both must be below {SEQUENCE_LIMIT}"
    )]
    Sequences {
        /// The lane.
        lane: u8,
        /// The acknowledged sequence in the `Hello`.
        acknowledged: u64,
        /// The released sequence in the `Hello`.
        released: u64,
    },
}

/// A message that can be sent on a stream.
pub trait Message: Serialize + DeserializeOwned {
    /// The maximum length of this message in bytes.
    fn limit(&self) -> usize;

    /// The approximate length of this message in bytes; never too small for a batch.
    fn expected_bytes(&self) -> usize {
        256
    }

    /// Checks that counts in the message are within their limits.
    ///
    /// # Errors
    /// When a count exceeds its limit.
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }

    /// Encodes the message, preceded by its length.
    ///
    /// # Errors
    /// When the message exceeds its limit.
    fn to_frame(&self) -> Result<Bytes, WireError> {
        self.validate()?;
        let mut frame = vec![0; 4 + self.expected_bytes()];
        let used = match postcard::to_slice(self, &mut frame[4..]) {
            Ok(used) => used.len(),
            Err(postcard::Error::SerializeBufferFull) => {
                let body = postcard::to_stdvec(self)?;
                frame.truncate(4);
                frame.extend_from_slice(&body);
                body.len()
            }
            Err(other) => return Err(other.into()),
        };
        check_length(used, self.limit())?;
        frame.truncate(4 + used);
        let length = u32::try_from(used).expect("limits are far below 4 GiB");
        frame[..4].copy_from_slice(&length.to_le_bytes());
        Ok(frame.into())
    }

    /// Decodes a message from `body`, which excludes the length.
    ///
    /// # Errors
    /// When `body` is not exactly one message within its limits.
    fn from_body(body: &[u8]) -> Result<Self, WireError> {
        let (message, rest) = postcard::take_from_bytes::<Self>(body)?;
        if !rest.is_empty() {
            return Err(WireError::TrailingBytes(rest.len()));
        }
        check_length(body.len(), message.limit())?;
        message.validate()?;
        Ok(message)
    }
}

impl Message for EdgeMessage {
    fn limit(&self) -> usize {
        match self {
            Self::Hello(_) => MAX_CONTROL_MESSAGE_BYTES,
            Self::Batch(_) => MAX_BATCH_MESSAGE_BYTES,
        }
    }

    fn expected_bytes(&self) -> usize {
        match self {
            Self::Hello(hello) => MAX_HEADER_BYTES + hello.lanes.len() * 32,
            Self::Batch(batch) => MAX_HEADER_BYTES + batch.payload.len(),
        }
    }

    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Hello(hello) => {
                check_lanes(hello.lanes.len())?;
                hello.lanes.iter().try_for_each(check_sequences)
            }
            Self::Batch(_) => Ok(()),
        }
    }
}

impl Message for AggregatorMessage {
    fn limit(&self) -> usize {
        MAX_CONTROL_MESSAGE_BYTES
    }

    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Welcome(welcome) => check_lanes(welcome.lanes.len()),
            Self::Ack(_) | Self::Refuse(_) => Ok(()),
        }
    }
}

const fn check_lanes(lanes: usize) -> Result<(), WireError> {
    if lanes > MAX_LANES {
        Err(WireError::TooManyLanes(lanes))
    } else {
        Ok(())
    }
}

const fn check_sequences(lane: &LaneHello) -> Result<(), WireError> {
    let LaneHello {
        lane,
        acknowledged,
        released,
        ..
    } = *lane;
    if released <= acknowledged && acknowledged < SEQUENCE_LIMIT {
        Ok(())
    } else {
        Err(WireError::Sequences {
            lane,
            acknowledged,
            released,
        })
    }
}

pub(crate) const fn check_length(length: usize, limit: usize) -> Result<(), WireError> {
    if length > limit {
        Err(WireError::TooLong { length, limit })
    } else {
        Ok(())
    }
}
