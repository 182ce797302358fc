//! Files that are complete or recognisably damaged: a magic number, the content, and its BLAKE3 hash. A file is written
//! under a temporary name, synced, then renamed.

use std::io;
use std::path::Path;
use storage::{File as _, Storage};
use thiserror::Error;

const HASH_BYTES: usize = blake3::OUT_LEN;

/// The first bytes of a file, which identify its format.
pub(crate) type Magic = [u8; 8];

/// Why a file can't be used.
#[derive(Debug, Error)]
pub(crate) enum SealedError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
}

/// The hash that `body` will be sealed with.
pub(crate) fn hash(magic: Magic, body: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(&magic).update(body).finalize()
}

/// Writes `body` to `path`. After a power loss the file has either the old or the new content.
pub(crate) fn write(
    storage: &impl Storage,
    path: &Path,
    magic: Magic,
    body: &[u8],
) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    write_temporary(storage, &temporary, magic, body)?;
    storage.rename(&temporary, path)?;
    sync_directory_of(storage, path)
}

/// The first half of [`write`]: everything except the rename.
pub(crate) fn write_temporary(
    storage: &impl Storage,
    temporary: &Path,
    magic: Magic,
    body: &[u8],
) -> io::Result<()> {
    let file = storage.create(temporary)?;
    let hash = hash(magic, body);
    let mut at = 0;
    for part in [&magic[..], body, hash.as_bytes()] {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    file.sync()
}

/// Makes renames in the directory of `path` durable.
pub(crate) fn sync_directory_of(storage: &impl Storage, path: &Path) -> io::Result<()> {
    storage.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Reads the content; detects every changed or missing byte.
pub(crate) fn read(
    storage: &impl Storage,
    path: &Path,
    magic: Magic,
) -> Result<(Vec<u8>, blake3::Hash), SealedError> {
    let mut bytes = storage::read(storage, path)?;
    let end = bytes
        .len()
        .checked_sub(HASH_BYTES)
        .filter(|end| *end >= magic.len())
        .ok_or(SealedError::Damaged("the file is too short"))?;
    if bytes[..magic.len()] != magic {
        return Err(SealedError::Damaged(
            "the magic number is that of another format or version",
        ));
    }
    let found = blake3::hash(&bytes[..end]);
    if found.as_bytes()[..] != bytes[end..] {
        return Err(SealedError::Damaged("the hash does not match the content"));
    }
    bytes.truncate(end);
    bytes.drain(..magic.len());
    Ok((bytes, found))
}
