//! Folders in memory where there is some to write files to: a disk would be worn and slow.

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A new folder, gone when it is dropped; `TMPDIR` says where, for a fuzzer drops nothing at its end.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        tempfile::tempdir_in(memory).expect("there is room in memory")
    } else {
        tempfile::tempdir().expect("there is room for files")
    }
}

/// Removes all files in `dir`.
pub(crate) fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).expect("readable") {
        fs::remove_file(entry.expect("readable").path()).expect("removable");
    }
}
