//! Sealed batches: compresses a run of frames and decompresses it again. The frames' content belongs to
//! the journal.

use crate::{Batch, BatchHeader, InvalidHeader};
use std::io;
use std::time::Duration;
use thiserror::Error;

/// The default number of frame bytes at which a batch is sealed.
pub const DEFAULT_BATCH_BYTES: u64 = 2 << 20;
/// The default age of its first event at which a batch is sealed.
pub const DEFAULT_MAX_BATCH_AGE: Duration = Duration::from_millis(200);
/// The zstd level: a fifth less time than level 1, for a tenth more bytes.
const ZSTD_LEVEL: i32 = -1;

/// The maximum frame bytes of a batch: the message fits its limit even when the frames do not compress.
pub const MAX_RAW_BYTES: usize = 7 * 1024 * 1024;

/// The events of a batch before it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpan {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The events' format version.
    pub format_version: u16,
    /// The last sequence before `first` in the journal, or 0.
    pub after: u64,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// The number of events.
    pub events: u32,
}

/// Frames that can't be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// More frame bytes than a batch may hold.
    #[error("{0} bytes of frames exceed the limit of {MAX_RAW_BYTES}; seal fewer frames per batch")]
    TooLong(usize),
    /// The span contradicts itself.
    #[error(transparent)]
    BatchSpan(#[from] InvalidHeader),
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
    /// The payload was altered in transit.
    #[error("the payload's checksum is {found:08x}, not {expected:08x}")]
    Checksum {
        /// The header's checksum.
        expected: u32,
        /// The payload's checksum.
        found: u32,
    },
    /// The payload is not zstd, or decompresses to more bytes than the header's `raw_bytes`.
    #[error("decompression failed: {0}")]
    Decompress(io::Error),
    /// The payload decompresses to fewer bytes than the header's `raw_bytes`.
    #[error("{found} bytes of frames instead of {expected}")]
    Length {
        /// The header's `raw_bytes`.
        expected: u32,
        /// The decompressed length.
        found: usize,
    },
}

/// Seals batches and reuses the compressor's memory between them.
pub struct Sealer {
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Creates a sealer.
    ///
    /// # Errors
    /// When the compressor's memory can't be allocated.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
        })
    }

    /// Seals `raw`, the concatenated frames of `span`; `sealed_at` is in microseconds since 1970.
    ///
    /// # Errors
    /// When `raw` is longer than [`MAX_RAW_BYTES`] or the span contradicts itself.
    pub fn seal(
        &mut self,
        span: &BatchSpan,
        raw: &[u8],
        sealed_at: u64,
    ) -> Result<Batch, SealError> {
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

/// Checks the payload's checksum.
///
/// # Errors
/// When it differs from the header's.
pub fn verify_checksum(header: &BatchHeader, payload: &[u8]) -> Result<(), OpenError> {
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

/// Replaces the content of `raw`, whose capacity is reused, with the frames of a sealed batch; never
/// allocates more memory than the header's `raw_bytes`.
///
/// # Errors
/// When the header contradicts itself or the payload does not match it.
pub fn open(header: &BatchHeader, payload: &[u8], raw: &mut Vec<u8>) -> Result<(), OpenError> {
    raw.clear();
    header.validate()?;
    verify_checksum(header, payload)?;
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
