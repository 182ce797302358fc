//! Files and directories of keys: readable by their owner only, and created atomically.

use super::TlsError;
use super::error::file_error;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const DIRECTORY_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Lets `fill` write files into a staging directory and renames that to `dir`, which must be absent or
/// empty.
pub(super) fn create_directory(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TlsError>,
) -> Result<(), TlsError> {
    let staging = staging_path(dir);
    let created = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(&staging)
        .map_err(|cause| file_error(&staging, cause))
        .and_then(|()| fill(&staging))
        .and_then(|()| match fs::rename(&staging, dir) {
            Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(TlsError::Occupied(dir.to_owned()))
            }
            renamed => renamed.map_err(|cause| file_error(dir, cause)),
        });
    if created.is_err() && staging.exists() {
        fs::remove_dir_all(&staging).map_err(|cause| file_error(&staging, cause))?;
    }
    created
}

fn staging_path(dir: &Path) -> PathBuf {
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".making-{}-{attempt}", std::process::id()));
    dir.with_file_name(name)
}

pub(super) fn write_certificate(path: &Path, pem: &str) -> Result<(), TlsError> {
    write(path, pem, CERTIFICATE_MODE)
}

pub(super) fn write_key(path: &Path, pem: &str) -> Result<(), TlsError> {
    write(path, pem, KEY_MODE)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|cause| file_error(path, cause))
}
