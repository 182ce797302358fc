//! Copies of files, readable by their owner only, and the list of their original paths.

use super::{MaintenanceError, make_dir};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "files.json";
const NAMED: &str = "files";

/// The original path of a file that the settings name.
#[derive(Debug, Serialize, Deserialize)]
struct CopiedFile {
    path: PathBuf,
    /// The name in the directory `files` of the backup.
    copy: String,
}

/// A backup in progress.
#[derive(Debug)]
pub(super) struct Copies {
    dir: PathBuf,
    named: Vec<CopiedFile>,
}

impl Copies {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            named: Vec::new(),
        }
    }

    /// Copies a file under its own name into a directory of the backup. A file that was deleted meanwhile is skipped:
    /// its reports were evaluated.
    pub(super) fn add_to(&self, below: &str, file: &Path) -> Result<(), MaintenanceError> {
        let dir = self.dir.join(below);
        make_dir(&dir)?;
        match copy(file, &dir.join(file.file_name().unwrap_or_default())) {
            Err(MaintenanceError::File { cause, .. })
                if cause.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Copies a file that must be restored to its original path.
    pub(super) fn add_named(&mut self, file: &Path) -> Result<(), MaintenanceError> {
        let dir = self.dir.join(NAMED);
        make_dir(&dir)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}-{name}", self.named.len());
        copy(file, &dir.join(&name))?;
        let path = fs::canonicalize(file).map_err(failed(file))?;
        self.named.push(CopiedFile { path, copy: name });
        Ok(())
    }

    /// Writes the list, and returns a line about each copy.
    pub(super) fn finish(self) -> Result<Vec<String>, MaintenanceError> {
        let path = self.dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&self.named).map_err(io::Error::other);
        let text = text.map_err(failed(&path))?;
        fs::write(&path, text).map_err(failed(&path))?;
        sync(&path)?;
        let copied = self.named.iter();
        Ok(copied
            .map(|it| format!("{} copied", it.path.display()))
            .collect())
    }
}

/// Restores the files of a backup's list where none exist, and returns a line about each.
pub(super) fn put_back(from: &Path) -> Result<Vec<String>, MaintenanceError> {
    let path = from.join(MANIFEST);
    let text = fs::read(&path).map_err(failed(&path))?;
    let named: Vec<CopiedFile> =
        serde_json::from_slice(&text).map_err(|_| MaintenanceError::Manifest(path.clone()))?;
    let mut done = Vec::new();
    for CopiedFile { path, copy: name } in named {
        if name.contains('/') {
            return Err(MaintenanceError::Manifest(from.join(MANIFEST)));
        }
        if path.exists() {
            done.push(format!("{} exists and was kept", path.display()));
            continue;
        }
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
        }
        copy(&from.join(NAMED).join(&name), &path)?;
        done.push(format!("{} restored", path.display()));
    }
    Ok(done)
}

/// The files of a directory, sorted; empty if it does not exist.
pub(super) fn files_in(dir: &Path) -> Result<Vec<PathBuf>, MaintenanceError> {
    let entries = match fs::read_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed(dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Copies a file so that the copy is complete or absent after a crash, and readable by its owner only.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), MaintenanceError> {
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut source = File::open(from).map_err(failed(from))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut target = options.open(&temporary).map_err(failed(&temporary))?;
    io::copy(&mut source, &mut target).map_err(failed(&temporary))?;
    target.sync_all().map_err(failed(&temporary))?;
    fs::rename(&temporary, to).map_err(failed(to))?;
    sync_dir_of(to)
}

/// Makes a file of another writer durable, and readable by its owner only.
pub(super) fn sync(path: &Path) -> Result<(), MaintenanceError> {
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed(path))?;
    let file = File::open(path).map_err(failed(path))?;
    file.sync_all().map_err(failed(path))?;
    sync_dir_of(path)
}

fn sync_dir_of(path: &Path) -> Result<(), MaintenanceError> {
    let dir = path.parent().unwrap_or(path);
    let opened = File::open(dir).map_err(failed(dir))?;
    opened.sync_all().map_err(failed(dir))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> MaintenanceError {
    let path = path.to_owned();
    move |cause| MaintenanceError::File {
        path: path.clone(),
        cause,
    }
}
