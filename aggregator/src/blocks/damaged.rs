//! Renames damaged files, so that an operator can examine them.

use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

/// Renames a damaged file to `*.corrupt` and returns its new path.
pub(super) fn set_aside(storage: &impl Storage, path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".corrupt");
    let aside = PathBuf::from(name);
    storage.rename(path, &aside)?;
    Ok(aside)
}
