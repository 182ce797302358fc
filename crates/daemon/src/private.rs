//! Restricts files and directories to this process's user.

use rustix::fs::Mode;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The permission bits of group and others.
const GROUP_AND_OTHERS_MODE: u32 = 0o077;

/// Restricts all files and directories that this process creates later to its user, independent of the
/// inherited umask. Call this first in `main`, while the process has one thread.
pub fn restrict_new_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Removes the access of group and others to an existing data directory.
///
/// The directory of another owner, such as a mounted volume, is not changed; files created in it are
/// still private.
pub fn restrict_directory(dir: &Path) {
    match tighten(dir) {
        Ok(None) => {}
        Ok(Some(mode)) => tracing::warn!(
            directory = %dir.display(),
            mode = format_args!("{mode:o}"),
            "other users could access the data directory; changed its mode to 700"
        ),
        Err(error) => tracing::warn!(
            directory = %dir.display(),
            %error,
            "other users may access the data directory; run as its owner: chmod 700 {}",
            dir.display()
        ),
    }
}

/// Makes a file of secrets, and its directory, unless the file exists; true when it made it. Two processes may do so
/// at once: the file is written under another name and linked, and the first link wins.
///
/// # Errors
/// When it can't be written.
pub fn create(path: &Path, text: &str) -> io::Result<bool> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Ok(()) => File::open(directory)?.sync_all().map(|()| true),
        Err(error) => Err(error),
    }
}

/// Removes access of others and returns the previous mode; `None` when the mode was private.
fn tighten(dir: &Path) -> io::Result<Option<u32>> {
    let mode = match fs::metadata(dir) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if mode & GROUP_AND_OTHERS_MODE == 0 {
        return Ok(None);
    }
    fs::set_permissions(dir, Permissions::from_mode(mode & !GROUP_AND_OTHERS_MODE))?;
    Ok(Some(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_directory_is_tightened_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let set = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode));
        set(0o755).expect("set");
        assert_eq!(tighten(dir.path()).expect("owned"), Some(0o755));
        assert_eq!(tighten(dir.path()).expect("owned"), None);
        let mode = fs::metadata(dir.path())
            .expect("the directory exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let absent = dir.path().join("absent");
        assert_eq!(tighten(&absent).expect("nothing to do"), None);
    }
}
