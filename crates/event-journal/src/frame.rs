//! A frame: one event with its length, checksum and sequence.
//!
//! Little-endian `len u32 | crc u32 | seq u64 | payload`, padded with zeros to 8 bytes. The
//! checksum is CRC-32C over length, sequence and payload. A length of 0 ends a segment.

use thiserror::Error;

/// The length of a frame's header, which precedes the payload.
pub(crate) const HEAD_BYTES: usize = 16;
/// Frames start at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 8;
/// Sequences are below this limit: at a million events a second a lane would reach it after a hundred
/// thousand years. A higher value was never written by a journal.
pub const SEQ_LIMIT: u64 = 1 << 62;
/// The length of the shortest frame: a header and a payload of one byte, padded.
pub(crate) const MIN_FRAME_BYTES: usize = 24;

/// One event as stored in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The event's sequence in its lane.
    pub seq: u64,
    /// The encoded event.
    pub payload: &'a [u8],
}

/// Bytes that are not a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The frame's length is 0 or exceeds the available bytes.
    #[error("the frame at byte {at} is truncated")]
    Short {
        /// The offset of the frame.
        at: usize,
    },
    /// The checksum does not match.
    #[error("the frame at byte {at} has a wrong checksum")]
    Checksum {
        /// The offset of the frame.
        at: usize,
    },
}

/// An iterator over concatenated frames that ends after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Frame<'_> {
    /// Appends the frame to `bytes` in the journal's format.
    ///
    /// # Panics
    /// When the payload is empty, which no event is, or is 4 GiB or longer.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        assert!(!self.payload.is_empty(), "a length of 0 ends a segment");
        let (at, len) = (bytes.len(), self.payload.len());
        bytes.resize(at + frame_bytes(len), 0);
        let buffer = &mut bytes[at..];
        buffer[HEAD_BYTES..HEAD_BYTES + len].copy_from_slice(self.payload);
        complete(buffer, self.seq, len);
    }
}

/// The frames in `bytes`; each checksum is verified.
#[must_use]
pub const fn frames(bytes: &[u8]) -> Frames<'_> {
    Frames { bytes, at: 0 }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let parsed = parse(self.bytes, self.at);
        self.at = parsed.map_or(self.bytes.len(), |frame| {
            self.at + frame_bytes(frame.payload.len())
        });
        Some(parsed)
    }
}

/// The length of a frame with a payload of `len` bytes, including padding.
#[must_use]
pub const fn frame_bytes(len: usize) -> usize {
    (HEAD_BYTES + len).next_multiple_of(ALIGN_BYTES)
}

/// Parses the frame at offset `at`.
pub(crate) fn parse(bytes: &[u8], at: usize) -> Result<Frame<'_>, FrameError> {
    let short = FrameError::Short { at };
    let rest = bytes.get(at..).ok_or(short)?;
    let (head, rest) = rest.split_first_chunk::<HEAD_BYTES>().ok_or(short)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if len == 0 || frame_bytes(len) - HEAD_BYTES > rest.len() {
        return Err(short);
    }
    let payload = &rest[..len];
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if crc != checksum(&head[..4], &head[8..], payload) {
        return Err(FrameError::Checksum { at });
    }
    let mut seq = [0; 8];
    seq.copy_from_slice(&head[8..]);
    Ok(Frame {
        seq: u64::from_le_bytes(seq),
        payload,
    })
}

/// Completes the frame in `buffer`, which already contains the payload of `len` bytes. The length is
/// written last: a crash before that leaves no frame.
pub(crate) fn complete(buffer: &mut [u8], seq: u64, len: usize) {
    let (head, rest) = buffer.split_at_mut(HEAD_BYTES);
    let len_bytes = u32::try_from(len)
        .expect("a payload fits into a segment")
        .to_le_bytes();
    let seq_bytes = seq.to_le_bytes();
    let crc = checksum(&len_bytes, &seq_bytes, &rest[..len]);
    head[8..].copy_from_slice(&seq_bytes);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
    head[..4].copy_from_slice(&len_bytes);
}

fn checksum(len: &[u8], seq: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), seq), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame { seq, payload }.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn written_frames_are_read_back(payloads in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..100), 0..10,
        )) {
            let bytes: Vec<u8> =
                payloads.iter().zip(1..).flat_map(|(payload, seq)| framed(seq, payload)).collect();
            let read: Result<Vec<_>, _> = frames(&bytes).collect();
            let expected: Vec<_> = payloads
                .iter()
                .zip(1..)
                .map(|(payload, seq)| Frame { seq, payload })
                .collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn frame_with_any_flipped_bit_is_rejected(
            payload in proptest::collection::vec(any::<u8>(), 1..60), seq: u64, bit: usize,
        ) {
            let mut bytes = framed(seq, &payload);
            let bit = bit % ((HEAD_BYTES + payload.len()) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = parse(&bytes, 0);
            prop_assert!(read.is_err(), "{:?}", read);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = frames(&bytes).count();
        }
    }
}
