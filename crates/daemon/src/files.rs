//! Files that operators write: whether one has changed, and texts that nobody else may read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thiserror::Error;

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// Files that are used together, with the versions that were last seen.
#[derive(Debug, Clone)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    versions: Vec<Option<Version>>,
}

/// A file of secrets that can't be used.
#[derive(Debug, Error)]
pub enum PrivateFileError {
    /// It can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others can read it.
    #[error("{} is readable by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
}

impl Version {
    /// The version of the file at `path` now, if it can be seen.
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
    /// The files at `paths` as they are now; read them after this, or a change may be missed.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let versions = paths.iter().map(|path| Version::of(path)).collect();
        Self { paths, versions }
    }

    /// Whether any was changed, made or removed since the last call.
    pub fn changed(&mut self) -> bool {
        let now = Self::new(std::mem::take(&mut self.paths));
        let changed = now.versions != self.versions;
        *self = now;
        changed
    }
}

/// The text of a file of secrets, which is at most `most` bytes long.
///
/// # Errors
/// When it can't be read, is longer, or can be read by others.
pub fn read_private(path: &Path, most: u64) -> Result<String, PrivateFileError> {
    let io = |cause| PrivateFileError::Io {
        path: path.into(),
        cause,
    };
    let file = File::open(path).map_err(io)?;
    // Of the open file: another may have its name by now.
    let metadata = file.metadata().map_err(io)?;
    if is_exposed(&metadata) {
        return Err(PrivateFileError::Exposed(path.into()));
    }
    let mut text = String::new();
    let read = file.take(most.saturating_add(1)).read_to_string(&mut text);
    if read.map_err(io)? as u64 > most {
        return Err(io(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// Refuses a file of secrets that others can access; for files that something else reads.
///
/// # Errors
/// When it can't be seen, or can be accessed by others.
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
    fn texts_that_others_can_read_or_that_are_too_long_are_refused() {
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
