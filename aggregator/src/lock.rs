//! The lock of the data directory: two aggregators in one directory would count events twice.

use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;
use thiserror::Error;

const LOCK_FILE: &str = "aggregator.lock";

/// Why the data directory could not be locked.
#[derive(Debug, Error)]
pub enum DirectoryInUse {
    /// Another aggregator holds the lock.
    #[error("{} is in use by another aggregator; stop that one, or give each a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The lock file can't be opened or locked.
    #[error("failed to lock the data directory: {}: {cause}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
}

/// Creates `data_dir` if it is missing, and locks it until the lock is dropped or the process ends.
pub(crate) fn lock<S: Storage>(storage: &S, data_dir: &Path) -> Result<S::Lock, DirectoryInUse> {
    let path = data_dir.join(LOCK_FILE);
    let locked = storage::create_dir_all(storage, data_dir).and_then(|()| storage.try_lock(&path));
    match locked {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(DirectoryInUse::Locked(data_dir.into())),
        Err(cause) => Err(DirectoryInUse::Io { path, cause }),
    }
}
