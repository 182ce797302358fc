//! The lock of the data directory: two aggregators that shared it would count events twice.

use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;
use thiserror::Error;

const LOCK_FILE: &str = "aggregator.lock";

/// The data directory can't be had alone.
#[derive(Debug, Error)]
pub enum DirectoryInUse {
    /// Another aggregator has it.
    #[error("{} is in use by another aggregator; stop that one, or give each a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The lock can't be taken.
    #[error("{}: {cause}; the data directory can't be locked", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Takes the lock of `data_dir`, making the directory; it ends with the process at the latest.
pub(crate) fn lock<S: Storage>(storage: &S, data_dir: &Path) -> Result<S::Lock, DirectoryInUse> {
    let path = data_dir.join(LOCK_FILE);
    let taken = storage::create_dir_all(storage, data_dir).and_then(|()| storage.try_lock(&path));
    match taken {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(DirectoryInUse::Locked(data_dir.into())),
        Err(cause) => Err(DirectoryInUse::Io { path, cause }),
    }
}
