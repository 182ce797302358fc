//! The checkpoint: up to where ClickHouse has each lane. The one before is kept beside it.

use super::damaged::set_aside;
use super::sealed::{self, Magic, SealedError};
use event_shipping::{LaneCheckpoint, LaneKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: Magic = *b"FZCHECK2";

/// Where everything stood after a block was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The number of the last block taken.
    pub(crate) block: u64,
    /// The day of that, counted from 1970.
    pub(crate) day: u32,
    /// Per lane the highest sequence that ClickHouse has, and on how many days no edge mentioned it: one
    /// byte more for a lane that is in use.
    pub(crate) taken: Vec<(LaneKey, u64, u16)>,
}

/// What was found on disk.
pub(super) struct Found {
    pub(super) checkpoint: Checkpoint,
    /// Damaged files that were set aside.
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

    /// The lanes as they are remembered.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneCheckpoint> + '_ {
        self.taken
            .iter()
            .map(|&(key, taken, idle_days)| LaneCheckpoint {
                key,
                taken,
                idle_days,
            })
    }

    /// Makes this the current checkpoint and the current one the previous one, durably.
    pub(super) fn write(&self, storage: &impl Storage, dir: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let (current, previous) = (dir.join("checkpoint"), dir.join("checkpoint.prev"));
        let beside = dir.join("checkpoint.tmp");
        sealed::write_beside(storage, &beside, MAGIC, &body)?;
        match storage.rename(&current, &previous) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        storage.rename(&beside, &current)?;
        sealed::sync_directory_of(storage, &current)
    }

    /// The current checkpoint, else the previous one, else that of a new aggregator. The block
    /// between the two is still there as a file, so the previous one loses nothing.
    pub(super) fn read(storage: &impl Storage, dir: &Path) -> io::Result<Found> {
        let mut damaged = Vec::new();
        for name in ["checkpoint", "checkpoint.prev"] {
            let path = dir.join(name);
            match read_one(storage, &path) {
                Ok(checkpoint) => {
                    return Ok(Found {
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
        Ok(Found {
            checkpoint: Self::default(),
            set_aside: damaged,
        })
    }
}

fn read_one(storage: &impl Storage, path: &Path) -> Result<Checkpoint, SealedError> {
    let (body, _) = sealed::read(storage, path, MAGIC)?;
    postcard::from_bytes(&body).map_err(|_| SealedError::Damaged("its content is not a checkpoint"))
}
