//! The binary format of events: postcard (<https://postcard.jamesmunns.com/wire-format>). The version
//! is stored outside the events, once per journal segment and once per batch.

use crate::{Event, version_2, version_3};
use postcard::ser_flavors::Flavor;
use serde::Deserialize;
use thiserror::Error;

/// The format version of [`encode`].
pub const FORMAT_VERSION: u16 = 4;

/// The maximum length of an event.
pub const MAX_EVENT_BYTES: usize = 16 * 1024;

/// The minimum length of an event of any version: an empty identity check of version 2 with one byte for
/// its kind and each of its seven fields.
pub const MIN_EVENT_BYTES: usize = 8;

/// An event that exceeds the output buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the event does not fit into {room} bytes")]
pub struct EncodeError {
    /// The length of the buffer.
    pub room: usize,
}

/// Bytes that are not an event of their version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A version that this build does not know.
    #[error(
        "event format version {0} is newer than the supported version {FORMAT_VERSION}; upgrade"
    )]
    UnknownVersion(u16),
    /// Not an event, although the checksum matches.
    #[error("not an event of version {version}: {cause}")]
    Malformed {
        /// The expected version.
        version: u16,
        /// The decoder's error.
        cause: postcard::Error,
    },
    /// Bytes follow the event.
    #[error("{0} bytes follow the event")]
    TrailingBytes(usize),
}

/// Encodes `event` in [`FORMAT_VERSION`] at the start of `out` and returns its length.
///
/// # Errors
/// When `out` is too short; its content is unspecified then.
pub fn encode(event: &Event<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    let room = out.len();
    postcard::serialize_with_flavor(event, SliceWriter { out, used: 0 })
        .map_err(|_| EncodeError { room })
}

/// Writes an event into a slice.
struct SliceWriter<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Flavor for SliceWriter<'_> {
    type Output = usize;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let place = self.out.get_mut(self.used);
        *place.ok_or(postcard::Error::SerializeBufferFull)? = byte;
        self.used += 1;
        Ok(())
    }

    /// Half of the calls write a length of one byte or an empty text: these need no copy.
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

/// Decodes exactly one event from `bytes`; its texts borrow from them.
///
/// # Errors
/// When the version is unknown or the bytes are not exactly one event of it.
pub fn decode(version: u16, bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    match version {
        // Version 2 only added kinds of events. Version 3 only changed conversions and identity checks.
        // Version 4 changed conversions and added kinds of devices and another layout of click ids.
        1 | 2 => match bytes.first() {
            Some(&version_2::CONVERSION) => {
                decode_all::<version_2::Conversion<'_>>(version, &bytes[1..]).map(Event::from)
            }
            Some(&version_2::KYC_UPDATE) => {
                decode_all::<version_2::KycUpdate<'_>>(version, &bytes[1..]).map(Event::from)
            }
            _ => decode_all(version, bytes),
        },
        3 => match bytes.first() {
            Some(&version_2::CONVERSION) => {
                decode_all::<version_3::Conversion<'_>>(version, &bytes[1..]).map(Event::from)
            }
            _ => decode_all(version, bytes),
        },
        FORMAT_VERSION => decode_all(version, bytes),
        other => Err(DecodeError::UnknownVersion(other)),
    }
}

fn decode_all<'a, T: Deserialize<'a>>(version: u16, bytes: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError::TrailingBytes(rest.len())),
        Err(cause) => Err(DecodeError::Malformed { version, cause }),
    }
}
