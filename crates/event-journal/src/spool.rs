//! The spool's folder: its random id and its lock.

use crate::error::OpenError;
use crate::recovery;
use std::io;
use std::path::Path;
use storage::Storage;

const ID_FILE: &str = "spool.id";
const LOCK_FILE: &str = "spool.lock";
const MAGIC: &[u8; 8] = b"FZSPOOL1";

/// Takes the lock; it goes with the process at the latest.
pub(crate) fn lock<S: Storage>(storage: &S, dir: &Path) -> Result<S::Lock, OpenError> {
    let path = dir.join(LOCK_FILE);
    match storage.try_lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse(dir.into())),
        Err(cause) => Err(OpenError::Io { path, cause }),
    }
}

/// The spool's random id. When its file is lost or broken the segments still tell it; a spool without
/// either gets a new one, since its sequences must not be taken for those of the old one.
pub(crate) fn identity(storage: &impl Storage, dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join(ID_FILE);
    let io = |cause| OpenError::Io {
        path: path.clone(),
        cause,
    };
    match storage::read(storage, &path) {
        Ok(bytes) => match read_identity(&bytes) {
            Some(id) => return Ok(id),
            None => {
                let aside = path.with_extension("id.corrupt");
                tracing::warn!(file = %path.display(), "not a spool's id; set aside");
                storage.rename(&path, &aside).map_err(io)?;
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let id = match recovery::journal_of(storage, dir).map_err(io)? {
        Some(id) => id,
        None => storage.random().map_err(io)?,
    };
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    storage::replace(storage, &path, &bytes, true).map_err(io)?;
    Ok(id)
}

fn read_identity(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, id) = body.split_first_chunk::<8>()?;
    let whole = magic == MAGIC && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    whole.then(|| id.try_into().map(u64::from_le_bytes).ok())?
}
