//! What is done to whole files and folders, in the order that makes it durable.

use crate::{File, Storage};
use std::io;
use std::path::Path;

/// Makes `dir` and the folders above it, so that their names survive a power cut. That they exist
/// already is no error, nor enough: who made them may have been killed before syncing.
///
/// # Errors
/// When the system refuses.
pub fn create_dir(storage: &impl Storage, dir: &Path) -> io::Result<()> {
    // Each level is synced before the next is made, so of those that exist only the deepest may not be
    // durable yet.
    let mut missing = Vec::new();
    for level in dir
        .ancestors()
        .filter(|level| !level.as_os_str().is_empty())
    {
        if storage.exists(level)? {
            match sync_parent(storage, level) {
                // Somebody else's folder, who made this one for us.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
            break;
        }
        missing.push(level);
    }
    for level in missing.into_iter().rev() {
        match storage.make_dir(level) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_parent(storage, level)?,
        }
    }
    Ok(())
}

fn sync_parent(storage: &impl Storage, path: &Path) -> io::Result<()> {
    match path.parent() {
        // The root has a name in no folder.
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => storage.sync_dir(Path::new(".")),
        Some(parent) => storage.sync_dir(parent),
    }
}

/// The whole content of a file of at most 4 GiB.
///
/// # Errors
/// When there is none, it is longer, or the disk fails.
pub fn read(storage: &impl Storage, path: &Path) -> io::Result<Vec<u8>> {
    content(&storage.open(path)?)
}

fn content(file: &impl File) -> io::Result<Vec<u8>> {
    let length = u32::try_from(file.len()?)
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 GiB"))?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts `bytes` at `path`, written beside under the extension `tmp` and renamed. With `durable` a
/// power cut leaves either all of it or what was there before, and after a success all of it; without,
/// only a crash of the process does.
///
/// # Errors
/// When there is no room, or the disk fails.
pub fn replace(storage: &impl Storage, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let file = storage.create(&beside)?;
    let written = file
        .write_all_at(bytes, 0)
        .and_then(|()| if durable { file.sync() } else { Ok(()) })
        .and_then(|()| storage.rename(&beside, path));
    if let Err(error) = written {
        // On a full disk the half of it would take room that others need more.
        let _ = storage.remove(&beside);
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
    use crate::model::{Loss, Model};

    #[test]
    fn what_was_replaced_durably_survives_a_power_cut() {
        let (disk, path) = (Model::new(1), Path::new("/it"));
        for bytes in [&b"long enough"[..], b"short"] {
            replace(&disk, path, bytes, true).expect("written");
            let after = disk.cut_power(Loss::Everything);
            assert_eq!(read(&after, path).expect("there"), bytes);
        }
    }

    #[test]
    fn folders_are_made_with_all_above_them_and_files_are_replaced_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("a/b/c");
        create_dir(&Disk, &dir).expect("made");
        create_dir(&Disk, &dir).expect("there already");
        let path = dir.join("it");
        for bytes in [&b"long enough"[..], b"short"] {
            replace(&Disk, &path, bytes, true).expect("written");
            assert_eq!(read(&Disk, &path).expect("readable"), bytes);
        }
        assert_eq!(Disk.list(&dir).expect("readable"), [path]);
    }
}
