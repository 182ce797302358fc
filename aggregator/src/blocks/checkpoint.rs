//! The checkpoint: the position of each lane in ClickHouse. The previous checkpoint is kept as well.

use super::damaged::set_aside;
use super::sealed::{self, Magic, SealedError};
use event_shipping::{LaneCheckpoint, LaneKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: Magic = *b"FZCHECK2";

/// The state after the insert of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The number of the last inserted block.
    pub(crate) block: u64,
    /// The day of that insert, counted from 1970.
    pub(crate) day: u32,
    /// Per lane, the highest inserted sequence, and the number of days since an edge last mentioned the lane: one byte
    /// more for a lane in use.
    pub(crate) taken: Vec<(LaneKey, u64, u16)>,
}

/// The checkpoint on disk.
pub(super) struct FoundCheckpoint {
    pub(super) checkpoint: Checkpoint,
    /// Damaged files, which were renamed.
    pub(super) set_aside: Vec<PathBuf>,
}

impl Checkpoint {
    pub(crate) fn new(block: u64, day: u32, lanes: impl Iterator<Item = LaneCheckpoint>) -> Self {
        let taken = lanes.map(|lane| (lane.key, lane.taken, lane.idle_days));
        Self {
            block,
            day,
            taken: taken.collect(),
        }
    }

    /// The state of each lane.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneCheckpoint> + '_ {
        self.taken
            .iter()
            .map(|&(key, taken, idle_days)| LaneCheckpoint {
                key,
                taken,
                idle_days,
            })
    }

    /// Makes this the present checkpoint and the present one the previous, durably.
    pub(super) fn write(&self, storage: &impl Storage, dir: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let (current, previous) = (dir.join("checkpoint"), dir.join("checkpoint.prev"));
        let temporary = dir.join("checkpoint.tmp");
        sealed::write_temporary(storage, &temporary, MAGIC, &body)?;
        match storage.rename(&current, &previous) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        storage.rename(&temporary, &current)?;
        sealed::sync_directory_of(storage, &current)
    }

    /// Reads the present checkpoint, else the previous one, else returns that of a new aggregator. The file of the
    /// block between the two still exists, so the previous checkpoint loses nothing.
    pub(super) fn read(storage: &impl Storage, dir: &Path) -> io::Result<FoundCheckpoint> {
        let mut damaged = Vec::new();
        for name in ["checkpoint", "checkpoint.prev"] {
            let path = dir.join(name);
            match read_one(storage, &path) {
                Ok(checkpoint) => {
                    return Ok(FoundCheckpoint {
                        checkpoint,
                        set_aside: damaged,
                    });
                }
                Err(SealedError::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(SealedError::Io(cause)) => return Err(cause),
                Err(SealedError::Damaged(_)) => {
                    damaged.push(set_aside(storage, &path)?);
                }
            }
        }
        Ok(FoundCheckpoint {
            checkpoint: Self::default(),
            set_aside: damaged,
        })
    }
}

fn read_one(storage: &impl Storage, path: &Path) -> Result<Checkpoint, SealedError> {
    let (body, _) = sealed::read(storage, path, MAGIC)?;
    postcard::from_bytes(&body).map_err(|_| SealedError::Damaged("its content is not a checkpoint"))
}
