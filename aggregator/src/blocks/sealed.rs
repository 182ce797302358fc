//! Files that are whole or recognisably not: a magic word, the content, and its BLAKE3 hash;
//! written beside, flushed, then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
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
pub(crate) fn write(path: &Path, magic: Magic, body: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    write_beside(&beside, magic, body)?;
    fs::rename(&beside, path)?;
    sync_folder_of(path)
}

/// The first half of [`write`]: all but the rename.
pub(crate) fn write_beside(beside: &Path, magic: Magic, body: &[u8]) -> io::Result<()> {
    let mut file = File::create(beside)?;
    file.write_all(&magic)?;
    file.write_all(body)?;
    file.write_all(hash(magic, body).as_bytes())?;
    file.sync_all()
}

/// Makes renames in the folder of `path` survive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

/// Reads the content back; every altered or missing byte is noticed.
pub(crate) fn read(path: &Path, magic: Magic) -> Result<(Vec<u8>, blake3::Hash), SealedError> {
    let mut bytes = fs::read(path)?;
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
