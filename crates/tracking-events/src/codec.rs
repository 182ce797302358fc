//! The binary form of events: postcard (<https://postcard.jamesmunns.com/wire-format>), with a
//! version kept beside the events, once per journal segment and once per batch.

use crate::{Event, version_2, version_3};
use postcard::ser_flavors::Flavor;
use serde::Deserialize;
use thiserror::Error;

/// The version that [`encode`] writes.
pub const FORMAT_VERSION: u16 = 4;

/// No event is longer than this, in bytes.
pub const MAX_EVENT_BYTES: usize = 16 * 1024;

/// No event of any version is shorter, in bytes: an identity check of version 2 with nothing in it, a byte
/// for each of its eight fields and kinds.
pub const MIN_EVENT_BYTES: usize = 8;

/// An event did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the event does not fit into {room} bytes")]
pub struct EncodeError {
    /// The room there was.
    pub room: usize,
}

/// Bytes that are not an event of their version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A version this build does not know.
    #[error("event format version {0} is newer than the {FORMAT_VERSION} understood here; upgrade")]
    UnknownVersion(u16),
    /// Not an event, though the checksum held.
    #[error("not an event of version {version}: {cause}")]
    Malformed {
        /// The version it was said to be.
        version: u16,
        /// What the decoder met.
        cause: postcard::Error,
    },
    /// More bytes than the event has.
    #[error("{0} bytes follow the event")]
    TrailingBytes(usize),
}

/// Writes `event` at the start of `out` in [`FORMAT_VERSION`] and returns its length in bytes.
///
/// # Errors
/// When `out` is too short; its content is then unspecified.
pub fn encode(event: &Event<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    let room = out.len();
    postcard::serialize_with_flavor(event, Room { out, used: 0 }).map_err(|_| EncodeError { room })
}

/// Where an event is written.
struct Room<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Flavor for Room<'_> {
    type Output = usize;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let place = self.out.get_mut(self.used);
        *place.ok_or(postcard::Error::SerializeBufferFull)? = byte;
        self.used += 1;
        Ok(())
    }

    /// Half of what comes are lengths of one byte and texts of none: no copying for those.
    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        match bytes {
            [] => Ok(()),
            [byte] => self.try_push(*byte),
            _ => {
                let end = self.used + bytes.len();
                let place = self.out.get_mut(self.used..end);
                place
                    .ok_or(postcard::Error::SerializeBufferFull)?
                    .copy_from_slice(bytes);
                self.used = end;
                Ok(())
            }
        }
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.used)
    }
}

/// Reads the one event that `bytes` holds; texts are borrowed from it.
///
/// # Errors
/// When the version is unknown or the bytes are not exactly one event of it.
pub fn decode(version: u16, bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    match version {
        // Version 2 only added kinds of events to those of version 1, version 3 only changed two of them, and version 4
        // one; that one also added kinds of devices and ids of another layout.
        1 | 2 => match bytes.first() {
            Some(&version_2::CONVERSION) => {
                whole::<version_2::Conversion<'_>>(version, &bytes[1..]).map(Event::from)
            }
            Some(&version_2::KYC_UPDATE) => {
                whole::<version_2::KycUpdate<'_>>(version, &bytes[1..]).map(Event::from)
            }
            _ => whole(version, bytes),
        },
        3 => match bytes.first() {
            Some(&version_2::CONVERSION) => {
                whole::<version_3::Conversion<'_>>(version, &bytes[1..]).map(Event::from)
            }
            _ => whole(version, bytes),
        },
        FORMAT_VERSION => whole(version, bytes),
        other => Err(DecodeError::UnknownVersion(other)),
    }
}

fn whole<'a, T: Deserialize<'a>>(version: u16, bytes: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError::TrailingBytes(rest.len())),
        Err(cause) => Err(DecodeError::Malformed { version, cause }),
    }
}
