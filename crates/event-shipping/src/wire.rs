//! Messages as bytes: a length (u32, little-endian) and postcard
//! (<https://postcard.jamesmunns.com/wire-format>).

use crate::{EdgeMessage, LaneHello, SEQUENCE_LIMIT, ToEdge};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// No message is longer, in bytes; only a batch may come near it.
pub const MAX_BATCH_MESSAGE: usize = 8 * 1024 * 1024;

/// No message but a batch is longer, in bytes.
pub const MAX_CONTROL_MESSAGE: usize = 64 * 1024;

/// No `Hello` names more lanes, so that the `Welcome` fits its limit.
pub const MAX_LANES: usize = 1024;

/// Postcard's bytes beside a batch's payload are fewer than this.
const HEADER_ROOM: usize = 128;

/// Bytes that are not the message they should be, or a message that is too long to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Above its limit.
    #[error("a message of {length} bytes is above the limit of {limit}")]
    TooLong {
        /// Bytes it has or would have.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not a message of this protocol version.
    #[error("not a message of this protocol: {0}")]
    Malformed(#[from] postcard::Error),
    /// More bytes than the message has.
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
    /// More lanes than [`MAX_LANES`].
    #[error("{0} lanes are above the limit of {MAX_LANES}")]
    TooManyLanes(usize),
    /// A sequence that no journal can have reached, or `released` above `acknowledged`.
    #[error(
        "lane {lane} claims acknowledged {acknowledged} and released {released}; released must not be \
         above acknowledged, and both must be below {SEQUENCE_LIMIT}"
    )]
    Sequences {
        /// The lane.
        lane: u8,
        /// The claim.
        acknowledged: u64,
        /// The claim.
        released: u64,
    },
}

/// What can be sent on a stream.
pub trait Message: Serialize + DeserializeOwned {
    /// The length that this message may have, in bytes.
    fn limit(&self) -> usize;

    /// About the length that this message will have, in bytes; never too small for a batch.
    fn expected(&self) -> usize {
        256
    }

    /// Whether counts in the message are within their limits.
    ///
    /// # Errors
    /// When one is not.
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }

    /// The message with its length in front.
    ///
    /// # Errors
    /// When it is above its limit.
    fn to_frame(&self) -> Result<Bytes, WireError> {
        self.validate()?;
        let mut frame = vec![0; 4 + self.expected()];
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

    /// Reads the message that `body` (without the length in front) is.
    ///
    /// # Errors
    /// When it is not exactly one message within its limits.
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
            Self::Hello(_) => MAX_CONTROL_MESSAGE,
            Self::Batch(_) => MAX_BATCH_MESSAGE,
        }
    }

    fn expected(&self) -> usize {
        match self {
            Self::Hello(hello) => HEADER_ROOM + hello.lanes.len() * 32,
            Self::Batch(batch) => HEADER_ROOM + batch.payload.len(),
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

impl Message for ToEdge {
    fn limit(&self) -> usize {
        MAX_CONTROL_MESSAGE
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
