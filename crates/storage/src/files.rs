//! Operations on whole files and directories, in the order that makes them durable.

use crate::{File, Storage};
use std::io;
use std::path::Path;

/// Creates `dir` and its parents durably: their names survive a power loss. Existing directories are
/// no error, but the deepest is synced: its creator may have been killed before its own sync.
///
/// # Errors
/// When the system call fails.
pub fn create_dir_all(storage: &impl Storage, dir: &Path) -> io::Result<()> {
    // Each level is synced before the next is created, so of the existing levels only the deepest may
    // not be durable yet.
    let mut missing = Vec::new();
    for level in dir
        .ancestors()
        .filter(|level| !level.as_os_str().is_empty())
    {
        if storage.exists(level)? {
            match sync_parent(storage, level) {
                // The parent belongs to another user, who created this directory for us.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
            break;
        }
        missing.push(level);
    }
    for level in missing.into_iter().rev() {
        match storage.create_dir(level) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_parent(storage, level)?,
        }
    }
    Ok(())
}

fn sync_parent(storage: &impl Storage, path: &Path) -> io::Result<()> {
    match path.parent() {
        // The root directory has no parent.
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => storage.sync_dir(Path::new(".")),
        Some(parent) => storage.sync_dir(parent),
    }
}

/// Reads a whole file of at most 4 GiB.
///
/// # Errors
/// When the file does not exist or is longer, or the disk fails.
pub fn read(storage: &impl Storage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path)?;
    let length = u32::try_from(file.len()?).map_err(|_| {
        io::Error::new(io::ErrorKind::FileTooLarge, "the file is longer than 4 GiB")
    })?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces the file at `path` atomically: writes `bytes` to a temporary file (extension `tmp`) in the
/// same directory and renames it.
///
/// A process crash leaves either the old or the new file. With `durable` a power loss does, too, and
/// after success it leaves the new file.
///
/// # Errors
/// When the disk is full or fails.
pub fn replace(storage: &impl Storage, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = storage.create(&temporary)?;
    let written = file
        .write_all_at(bytes, 0)
        .and_then(|()| if durable { file.sync() } else { Ok(()) })
        .and_then(|()| storage.rename(&temporary, path));
    if let Err(error) = written {
        // On a full disk a partial file would waste scarce space.
        let _ = storage.remove(&temporary);
        return Err(error);
    }
    if durable {
        sync_parent(storage, path)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;
    use crate::model::{Fault, Loss, ModelDisk};

    #[test]
    fn failed_operation_of_creating_directories_is_reported() {
        for operation in 0.. {
            let disk = ModelDisk::new(1);
            disk.inject_fault_at(operation, Fault::IoError);
            let created = create_dir_all(&disk, Path::new("/a/b"));
            if disk.operations() <= operation {
                assert!(operation > 3, "two directories are created and synced");
                return created.expect("no operation failed");
            }
            assert!(created.is_err(), "operation {operation}");
        }
    }

    #[test]
    fn durable_replace_survives_power_loss() {
        let (disk, path) = (ModelDisk::new(1), Path::new("/file"));
        for bytes in [&b"long enough"[..], b"short"] {
            replace(&disk, path, bytes, true).expect("written");
            let after = disk.after_power_loss(Loss::Everything);
            assert_eq!(read(&after, path).expect("the file exists"), bytes);
        }
    }

    #[test]
    fn creates_parent_directories_and_replaces_whole_files() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("a/b/c");
        create_dir_all(&Disk, &dir).expect("created");
        create_dir_all(&Disk, &dir).expect("an existing directory is no error");
        let path = dir.join("file");
        for bytes in [&b"long enough"[..], b"short"] {
            replace(&Disk, &path, bytes, true).expect("written");
            assert_eq!(read(&Disk, &path).expect("readable"), bytes);
        }
        assert_eq!(Disk.list(&dir).expect("readable"), [path]);
    }
}
