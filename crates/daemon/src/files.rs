//! Files written by operators: change detection, and secret files that other users must not read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thiserror::Error;

/// Metadata that changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// Files that are used together, with their last observed versions.
#[derive(Debug, Clone)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    versions: Vec<Option<FileVersion>>,
}

/// A secret file that can't be used.
#[derive(Debug, Error)]
pub enum PrivateFileError {
    /// The file can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Other users can read the file.
    #[error("{} is readable by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
}

impl FileVersion {
    /// The present version of the file at `path`; `None` when it can't be accessed.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

impl WatchedFiles {
    /// Observes the files at `paths`. Read the files after this call, or a change may be missed.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let versions = paths.iter().map(|path| FileVersion::of(path)).collect();
        Self { paths, versions }
    }

    /// Whether any file was changed, created or removed since the last call.
    pub fn changed(&mut self) -> bool {
        let now = Self::new(std::mem::take(&mut self.paths));
        let changed = now.versions != self.versions;
        *self = now;
        changed
    }
}

/// Reads a secret file of at most `max_bytes`.
///
/// # Errors
/// When the file can't be read, is longer, or is readable by other users.
pub fn read_private(path: &Path, max_bytes: u64) -> Result<String, PrivateFileError> {
    let io = |cause| PrivateFileError::Io {
        path: path.into(),
        cause,
    };
    let file = File::open(path).map_err(io)?;
    // The open file is checked, because another file may have its name by now.
    let metadata = file.metadata().map_err(io)?;
    if is_exposed(&metadata) {
        return Err(PrivateFileError::Exposed(path.into()));
    }
    let mut text = String::new();
    let read = file
        .take(max_bytes.saturating_add(1))
        .read_to_string(&mut text);
    if read.map_err(io)? as u64 > max_bytes {
        return Err(io(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// Checks the permissions of a secret file that other code reads.
///
/// # Errors
/// When the file does not exist or is accessible to other users.
pub fn require_private(path: &Path) -> Result<(), PrivateFileError> {
    let metadata = fs::metadata(path).map_err(|cause| PrivateFileError::Io {
        path: path.into(),
        cause,
    })?;
    if is_exposed(&metadata) {
        return Err(PrivateFileError::Exposed(path.into()));
    }
    Ok(())
}

fn is_exposed(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_files_report_each_change_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = [dir.path().join("one"), dir.path().join("two")];
        fs::write(&paths[0], "1").expect("writable");
        let mut watched = WatchedFiles::new(&paths);
        assert!(!watched.changed());
        fs::write(&paths[1], "2").expect("writable");
        assert!(watched.changed() && !watched.changed());
        fs::write(&paths[0], "longer").expect("writable");
        assert!(watched.changed() && !watched.changed());
        fs::remove_file(&paths[1]).expect("removable");
        assert!(watched.changed() && !watched.changed());
    }

    #[test]
    fn exposed_or_long_secret_files_are_rejected() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path();
        fs::write(path, "secret").expect("writable");
        assert_eq!(read_private(path, 6).expect("private"), "secret");
        assert!(matches!(
            read_private(path, 5),
            Err(PrivateFileError::Io { .. })
        ));
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("settable");
        let error = read_private(path, 6).expect_err("exposed").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
