//! A lane's reading position across restarts: the released and acknowledged sequences, and the
//! boundaries of batches that were sealed but not released.

use crate::frame;
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: &[u8; 8] = b"FZCHKPT2";
/// The maximum number of boundaries in a checkpoint.
pub(crate) const MAX_BOUNDARIES: usize = 8_192;

/// The boundaries of a sealed batch: events `first` to `last`, with none between `after` and `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBoundary {
    /// The last sequence before the batch.
    pub after: u64,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
}

/// The content of a lane's checkpoint file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) released: u64,
    /// Never below `released`.
    pub(crate) acknowledged: u64,
    pub(crate) boundaries: Vec<BatchBoundary>,
}

impl Checkpoint {
    pub(crate) fn path(lane_dir: &Path) -> PathBuf {
        lane_dir.join("checkpoint")
    }

    /// Reads a lane's checkpoint. An invalid file is renamed and ignored, because the aggregator's own
    /// watermark decides where shipping continues.
    pub(crate) fn load(storage: &impl Storage, lane_dir: &Path) -> io::Result<Self> {
        let path = Self::path(lane_dir);
        let bytes = match storage::read(storage, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        match Self::decode(&bytes) {
            Some(checkpoint) => Ok(checkpoint),
            None => {
                tracing::warn!(file = %path.display(), "invalid journal checkpoint; renamed it, reading starts at the first event");
                storage.rename(&path, &path.with_extension("corrupt"))?;
                Ok(Self::default())
            }
        }
    }

    pub(crate) fn store(&self, storage: &impl Storage, lane_dir: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.released.to_le_bytes());
        bytes.extend_from_slice(&self.acknowledged.to_le_bytes());
        for boundary in &self.boundaries {
            for number in [boundary.after, boundary.first, boundary.last] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        storage::replace(storage, &Self::path(lane_dir), &bytes, false)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let numbers = body.strip_prefix(MAGIC)?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let (released, acknowledged) = (numbers.next()?, numbers.next()?);
        let numbers: Vec<u64> = numbers.collect();
        let impossible = |seq: &u64| *seq >= frame::SEQ_LIMIT;
        if impossible(&acknowledged) || released > acknowledged || numbers.iter().any(impossible) {
            return None;
        }
        let (boundaries, odd) = numbers.as_chunks::<3>();
        if !rest.is_empty() || !odd.is_empty() || boundaries.len() > MAX_BOUNDARIES {
            return None;
        }
        let boundaries = boundaries
            .iter()
            .map(|&[after, first, last]| BatchBoundary { after, first, last });
        Some(Self {
            released,
            acknowledged,
            boundaries: boundaries.collect(),
        })
    }
}
