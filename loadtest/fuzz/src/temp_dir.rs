//! Temporary directories in memory if possible: a disk would be worn and slow.

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A new directory, removed when dropped. `TMPDIR` overrides its location, because a fuzzer drops nothing at its
/// end.
pub(crate) fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        tempfile::tempdir_in(memory).expect("there is room in memory")
    } else {
        tempfile::tempdir().expect("there is room for files")
    }
}

pub(crate) fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).expect("readable") {
        fs::remove_file(entry.expect("readable").path()).expect("removable");
    }
}
