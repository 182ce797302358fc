//! Files that are whole or recognisably not: a magic word, the content, and its BLAKE3 hash;
//! written beside, flushed, then renamed.

use std::io;
use std::path::Path;
use storage::{File as _, Storage};
use thiserror::Error;

const HASH_BYTES: usize = blake3::OUT_LEN;

/// The first bytes of a file say what it is.
pub(crate) type Magic = [u8; 8];

/// A file that can't be used.
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

/// Puts `body` at `path` so that after a power cut there is either all of it or what was before.
pub(crate) fn write(
    storage: &impl Storage,
    path: &Path,
    magic: Magic,
    body: &[u8],
) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    write_beside(storage, &beside, magic, body)?;
    storage.rename(&beside, path)?;
    sync_directory_of(storage, path)
}

/// The first half of [`write`]: all but the rename.
pub(crate) fn write_beside(
    storage: &impl Storage,
    beside: &Path,
    magic: Magic,
    body: &[u8],
) -> io::Result<()> {
    let file = storage.create(beside)?;
    let hash = hash(magic, body);
    let mut at = 0;
    for part in [&magic[..], body, hash.as_bytes()] {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    file.sync()
}

/// Makes renames in the directory of `path` survive a power cut.
pub(crate) fn sync_directory_of(storage: &impl Storage, path: &Path) -> io::Result<()> {
    storage.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Reads the content back; every altered or missing byte is noticed.
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
        .ok_or(SealedError::Damaged("too short"))?;
    if bytes[..magic.len()] != magic {
        return Err(SealedError::Damaged("not a file of this kind or version"));
    }
    let found = blake3::hash(&bytes[..end]);
    if found.as_bytes()[..] != bytes[end..] {
        return Err(SealedError::Damaged("its hash is wrong"));
    }
    bytes.truncate(end);
    bytes.drain(..magic.len());
    Ok((bytes, found))
}
