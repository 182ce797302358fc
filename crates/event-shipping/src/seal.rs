//! Sealing a run of frames into a batch and opening it again. What a frame is, the journal knows.

use crate::{Batch, BatchHeader, InvalidHeader};
use std::io;
use std::time::Duration;
use thiserror::Error;

/// A batch is sealed when it has this many bytes of frames, unless an edge is told otherwise…
pub const BATCH_BYTES: u64 = 2 << 20;
/// …or when its first event is this old.
pub const BATCH_AGE: Duration = Duration::from_millis(200);
/// zstd's: a fifth less time than level 1, for a tenth more bytes.
const LEVEL: i32 = -1;

/// A batch holds no more bytes of frames; even when they don't compress the message fits.
pub const MAX_RAW_BYTES: usize = 7 * 1024 * 1024;

/// Which events a batch is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The version of the events' binary form.
    pub format_version: u16,
    /// The last sequence before `first` in the journal, or 0.
    pub after: u64,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// How many events.
    pub events: u32,
}

/// Frames that can't be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// More frames than a batch may hold.
    #[error("{0} bytes of frames are above the limit of {MAX_RAW_BYTES}; seal fewer at once")]
    TooLong(usize),
    /// The span contradicts itself.
    #[error(transparent)]
    Span(#[from] InvalidHeader),
    /// The compressor failed.
    #[error("compression failed: {0}")]
    Compress(io::Error),
}

/// A batch that can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The header contradicts itself or a limit.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// The payload was altered on its way.
    #[error("the payload's checksum is {found:08x}, not {expected:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the payload has.
        found: u32,
    },
    /// Not zstd, or more than the header says.
    #[error("decompression failed: {0}")]
    Decompress(io::Error),
    /// Less than the header says.
    #[error("{found} bytes of frames instead of {expected}")]
    Length {
        /// What the header says.
        expected: u32,
        /// What there was.
        found: usize,
    },
}

/// Seals runs of frames; keeps the compressor's memory between batches.
pub struct Sealer {
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer.
    ///
    /// # Errors
    /// When there is no memory for a compressor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
        })
    }

    /// Seals `raw`, the concatenated frames of `span`; `sealed_at` is in microseconds since 1970.
    ///
    /// # Errors
    /// When there are more bytes than [`MAX_RAW_BYTES`] or the span contradicts itself.
    pub fn seal(&mut self, span: &Span, raw: &[u8], sealed_at: u64) -> Result<Batch, SealError> {
        let raw_bytes = u32::try_from(raw.len()).map_err(|_| SealError::TooLong(raw.len()))?;
        if raw.len() > MAX_RAW_BYTES {
            return Err(SealError::TooLong(raw.len()));
        }
        let mut header = BatchHeader {
            lane: span.lane,
            journal: span.journal,
            format_version: span.format_version,
            after: span.after,
            first: span.first,
            last: span.last,
            events: span.events,
            raw_bytes,
            crc: 0,
            sealed_at,
        };
        header.validate()?;
        let payload = self.compressor.compress(raw).map_err(SealError::Compress)?;
        header.crc = crc32c::crc32c(&payload);
        Ok(Batch {
            header,
            payload: payload.into(),
        })
    }
}

/// Whether `payload` is what the header's checksum was made of.
///
/// # Errors
/// When it is not.
pub fn checksum_holds(header: &BatchHeader, payload: &[u8]) -> Result<(), OpenError> {
    let found = crc32c::crc32c(payload);
    if found == header.crc {
        Ok(())
    } else {
        Err(OpenError::Checksum {
            expected: header.crc,
            found,
        })
    }
}

/// Puts the frames that were sealed in the place of what `raw` holds, whose room is used again;
/// never takes more memory than the header's `raw_bytes`.
///
/// # Errors
/// When the header contradicts itself or the payload is not what the header says.
pub fn open(header: &BatchHeader, payload: &[u8], raw: &mut Vec<u8>) -> Result<(), OpenError> {
    raw.clear();
    header.validate()?;
    checksum_holds(header, payload)?;
    raw.reserve_exact(header.raw_bytes as usize);
    let found = zstd::bulk::Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(payload, raw))
        .map_err(OpenError::Decompress)?;
    if found != header.raw_bytes as usize {
        return Err(OpenError::Length {
            expected: header.raw_bytes,
            found,
        });
    }
    Ok(())
}
