//! The spool's random id and its claimed generation. They distinguish a directory that returns from the one that
//! superseded it.

use super::damaged::set_aside;
use super::sealed::{self, Magic, SealedError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: Magic = *b"FZSPOOL1";

const NAME: &str = "identity";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) spool: u64,
    /// 0 before the first claim.
    pub(super) generation: u64,
}

impl Identity {
    /// Reads the identity, or creates one; a damaged file is set aside.
    pub(super) fn open(
        storage: &impl Storage,
        dir: &Path,
        damaged: &mut Vec<PathBuf>,
    ) -> io::Result<Self> {
        let path = dir.join(NAME);
        match read(storage, &path) {
            Ok(identity) => return Ok(identity),
            Err(SealedError::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(SealedError::Io(cause)) => return Err(cause),
            Err(SealedError::Damaged(_)) => damaged.push(set_aside(storage, &path)?),
        }
        let identity = Self {
            spool: storage.random()?,
            generation: 0,
        };
        identity.write(storage, dir)?;
        Ok(identity)
    }

    pub(super) fn write(&self, storage: &impl Storage, dir: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        sealed::write(storage, &dir.join(NAME), MAGIC, &body)
    }
}

fn read(storage: &impl Storage, path: &Path) -> Result<Identity, SealedError> {
    let (body, _) = sealed::read(storage, path, MAGIC)?;
    postcard::from_bytes(&body).map_err(|_| SealedError::Damaged("its content is not an identity"))
}
