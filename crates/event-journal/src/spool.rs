//! The spool directory's lock and random id.

use crate::error::OpenError;
use crate::recovery;
use std::io;
use std::path::Path;
use storage::Storage;

const ID_FILE: &str = "spool.id";
const LOCK_FILE: &str = "spool.lock";
const MAGIC: &[u8; 8] = b"FZSPOOL1";

/// Locks the spool; the lock ends with the process at the latest.
pub(crate) fn lock<S: Storage>(storage: &S, dir: &Path) -> Result<S::Lock, OpenError> {
    let path = dir.join(LOCK_FILE);
    match storage.try_lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse(dir.into())),
        Err(cause) => Err(OpenError::Io { path, cause }),
    }
}

/// Reads the spool's random id. When its file is missing or invalid, the id comes from a segment. A
/// spool without either gets a new id, so that its sequences are not mistaken for earlier ones.
pub(crate) fn load_or_create_id(storage: &impl Storage, dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join(ID_FILE);
    let io = |cause| OpenError::Io {
        path: path.clone(),
        cause,
    };
    match storage::read(storage, &path) {
        Ok(bytes) => match decode_id(&bytes) {
            Some(id) => return Ok(id),
            None => {
                let corrupt = path.with_extension("id.corrupt");
                tracing::warn!(file = %path.display(), renamed = %corrupt.display(), "invalid spool id file; renamed it");
                storage.rename(&path, &corrupt).map_err(io)?;
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let id = match recovery::find_journal_id(storage, dir).map_err(io)? {
        Some(id) => id,
        None => storage.random().map_err(io)?,
    };
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    storage::replace(storage, &path, &bytes, true).map_err(io)?;
    Ok(id)
}

fn decode_id(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, id) = body.split_first_chunk::<8>()?;
    let valid = magic == MAGIC && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    valid.then(|| id.try_into().map(u64::from_le_bytes).ok())?
}
