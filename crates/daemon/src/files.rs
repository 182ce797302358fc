//! Files written by operators: change detection, and secret files that other users must not read.

use rustix::process::geteuid;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;

/// A changed file that stays the same for this long has been written to its end.
pub const SETTLE_TIME: Duration = Duration::from_millis(500);

/// A file that keeps changing is reported after this time: it must not stay unread for as long as it changes.
const MAX_SETTLE_TIME: Duration = Duration::from_secs(10);

/// Metadata that changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// Files that are used together. A change is reported once they have stayed the same for [`SETTLE_TIME`], by their
/// modification times or between two checks: a file that is still being written may look complete.
#[derive(Debug, Clone)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    /// The versions at the last report; none before the first.
    reported: Option<Versions>,
    observed: Versions,
    /// Since when `observed` has been observed.
    observed_since: Instant,
    /// When the first change that is not reported yet was observed.
    pending_since: Option<Instant>,
}

type Versions = Vec<Option<FileVersion>>;

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
    #[error(
        "{} is readable by others; run: chmod 600 {}, or, for a program that does not run as root: chown root and \
         chmod 640, with a group of the program",
        .0.display(), .0.display()
    )]
    Exposed(PathBuf),
}

impl FileVersion {
    /// The present version of the file at `path`; `None` when it can't be accessed.
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for FileVersion {
    fn from(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        }
    }
}

impl WatchedFiles {
    /// Observes the files at `paths`. Read the files after this call, or a change may be missed.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let observed = versions(&paths);
        Self {
            paths,
            reported: Some(observed.clone()),
            observed,
            observed_since: Instant::now(),
            pending_since: None,
        }
    }

    /// Watches `paths` from now on. They count as changed when they differ from the paths before.
    pub fn watch<P: Into<PathBuf>>(&mut self, paths: impl IntoIterator<Item = P>) {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        if paths != self.paths {
            *self = Self {
                reported: None,
                ..Self::new(paths)
            };
        }
    }

    /// Whether any file was changed, created or removed since the last reported change, and all have settled. Read the
    /// files after this call.
    pub fn changed(&mut self) -> bool {
        self.changed_at(Instant::now())
    }

    /// How long the change that was observed last must stay to be reported; none without such a change.
    #[must_use]
    pub fn settles_in(&self) -> Option<Duration> {
        self.is_pending()
            .then(|| SETTLE_TIME.saturating_sub(self.observed_since.elapsed()))
    }

    fn changed_at(&mut self, now: Instant) -> bool {
        let present = versions(&self.paths);
        if present != self.observed {
            (self.observed, self.observed_since) = (present, now);
        }
        if !self.is_pending() {
            self.pending_since = None;
            return false;
        }
        let pending_since = *self.pending_since.get_or_insert(now);
        let changed = now.saturating_duration_since(self.observed_since) >= SETTLE_TIME
            || now.saturating_duration_since(pending_since) >= MAX_SETTLE_TIME
            || are_old(&self.observed);
        if changed {
            self.reported = Some(self.observed.clone());
            self.pending_since = None;
        }
        changed
    }

    /// Reports the present files at the next look, as after a change: they could not be read.
    pub fn report_again(&mut self) {
        self.reported = None;
    }

    /// Whether the observed versions were not reported.
    fn is_pending(&self) -> bool {
        self.reported.as_ref() != Some(&self.observed)
    }
}

fn versions(paths: &[PathBuf]) -> Versions {
    paths.iter().map(|path| FileVersion::of(path)).collect()
}

/// Whether all files exist and were last modified before [`SETTLE_TIME`].
fn are_old(versions: &Versions) -> bool {
    let now = SystemTime::now();
    let is_old = |version: &FileVersion| {
        let age = version.modified.and_then(|it| now.duration_since(it).ok());
        age.is_some_and(|age| age >= SETTLE_TIME)
    };
    versions.iter().all(|it| it.as_ref().is_some_and(is_old))
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
    exposes(metadata.mode(), metadata.uid(), geteuid().as_raw())
}

/// Whether a file with `mode` of `owner` is exposed to others than `user`. The group may read what only root can
/// change: so secrets reach programs of other users from systemd's units and from Kubernetes' volumes.
fn exposes(mode: u32, owner: u32, user: u32) -> bool {
    const ROOT: u32 = 0;
    let others = match owner == ROOT && user != ROOT {
        true => 0o037,
        false => 0o077,
    };
    mode & others != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn settled_change_is_reported_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let paths = [dir.path().join("one"), dir.path().join("two")];
        fs::write(&paths[0], "1").expect("writable");
        let mut watched = WatchedFiles::new(&paths);
        let mut now = Instant::now();
        let mut reports = |change: &dyn Fn()| {
            change();
            [0, 1, 1].map(|times| {
                now += SETTLE_TIME * times;
                watched.changed_at(now)
            })
        };
        let settled = [false, true, false];
        assert_eq!(reports(&|| {}), [false; 3], "nothing has changed");
        let write = |at: usize, text| fs::write(&paths[at], text).expect("writable");
        assert_eq!(reports(&|| write(1, "2")), settled, "created");
        assert_eq!(reports(&|| write(0, "longer")), settled, "written");
        let remove = || fs::remove_file(&paths[1]).expect("removable");
        assert_eq!(reports(&remove), settled, "removed");
    }

    #[test]
    fn file_that_is_being_written_is_not_reported() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("links.toml");
        let mut watched = WatchedFiles::new([&path]);
        let start = Instant::now();
        // Each part is complete in itself.
        for part in 1..=20 {
            fs::write(&path, "[[link]]\n".repeat(part)).expect("writable");
            let now = start + SETTLE_TIME / 2 * u32::try_from(part).expect("in range");
            assert!(!watched.changed_at(now), "part {part}");
        }
        let written = start + SETTLE_TIME * 10;
        assert!(!watched.changed_at(written + SETTLE_TIME * 9 / 10));
        assert!(watched.changed_at(written + SETTLE_TIME));
    }

    #[test]
    fn file_that_keeps_changing_is_reported_after_a_while() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("links.toml");
        let mut watched = WatchedFiles::new([&path]);
        let start = Instant::now();
        let mut change_at = |looks: u32| {
            fs::write(&path, "x".repeat(looks as usize)).expect("writable");
            watched.changed_at(start + MAX_SETTLE_TIME / 2 * looks)
        };
        assert_eq!(
            [1, 2, 3, 4].map(&mut change_at),
            [false, false, true, false]
        );
    }

    #[test]
    fn file_modified_long_ago_is_reported_at_the_first_look() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("links.toml");
        let mut watched = WatchedFiles::new([&path]);
        let file = File::create(&path).expect("writable");
        let modified = SystemTime::now() - Duration::from_secs(60);
        file.set_modified(modified).expect("time set");
        assert!(watched.changed() && !watched.changed());
        watched.report_again();
        assert!(watched.changed() && !watched.changed());
    }

    #[test]
    fn change_that_is_undone_is_not_reported() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("links.toml");
        let mut watched = WatchedFiles::new([&path]);
        let now = Instant::now();
        fs::write(&path, "").expect("writable");
        assert!(!watched.changed_at(now));
        fs::remove_file(&path).expect("removable");
        assert!(!watched.changed_at(now + SETTLE_TIME));
        assert!(!watched.changed_at(now + SETTLE_TIME * 2));
    }

    #[test]
    fn other_paths_are_reported() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let paths = [dir.path().join("one"), dir.path().join("two")];
        let mut watched = WatchedFiles::new(&paths[..1]);
        watched.watch(&paths[..1]);
        let now = Instant::now() + SETTLE_TIME;
        assert!(!watched.changed_at(now));
        watched.watch(&paths);
        let now = Instant::now() + SETTLE_TIME;
        assert!(watched.changed_at(now) && !watched.changed_at(now));
    }

    #[test]
    fn group_reads_only_secrets_of_root() {
        for (mode, owner, user, expected) in [
            (0o100_600, 1000, 1000, false),
            (0o100_640, 1000, 1000, true),
            (0o100_440, 0, 1000, false),
            (0o100_640, 0, 1000, false),
            (0o100_660, 0, 1000, true),
            (0o100_444, 0, 1000, true),
            (0o100_640, 1001, 1000, true),
            (0o100_640, 0, 0, true),
        ] {
            assert_eq!(exposes(mode, owner, user), expected, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn exposed_or_long_secret_files_are_rejected() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = file.path();
        fs::write(path, "secret").expect("writable");
        assert_eq!(read_private(path, 6).expect("private"), "secret");
        assert!(matches!(
            read_private(path, 5),
            Err(PrivateFileError::Io { .. })
        ));
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("permissions set");
        let error = read_private(path, 6).expect_err("exposed").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
