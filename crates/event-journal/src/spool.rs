//! The spool's folder: its random id, its lock, and small files written whole.

use crate::error::OpenError;
use crate::recovery;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const ID_FILE: &str = "spool.id";
const LOCK_FILE: &str = "spool.lock";
const MAGIC: &[u8; 8] = b"FZSPOOL1";

/// Takes the lock; it is held for as long as the file is open, and goes with the process.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let io = |cause| OpenError::Io {
        path: path.clone(),
        cause,
    };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(dir.into())),
        Err(error) => Err(io(error.into())),
    }
}

/// The spool's random id. When its file is lost or broken the segments still tell it; a spool without
/// either gets a new one, since its sequences must not be taken for those of the old one.
pub(crate) fn identity(dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join(ID_FILE);
    let io = |cause| OpenError::Io {
        path: path.clone(),
        cause,
    };
    match fs::read(&path) {
        Ok(bytes) => match read_identity(&bytes) {
            Some(id) => return Ok(id),
            None => {
                let aside = path.with_extension("id.corrupt");
                tracing::warn!(file = %path.display(), "not a spool's id; set aside");
                fs::rename(&path, aside).map_err(io)?;
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let id = match recovery::journal_of(dir).map_err(io)? {
        Some(id) => id,
        None => getrandom::u64().map_err(|error| io(io::Error::other(error)))?,
    };
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    replace(&path, &bytes, true).map_err(io)?;
    Ok(id)
}

fn read_identity(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, id) = body.split_first_chunk::<8>()?;
    let whole = magic == MAGIC && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    whole.then(|| id.try_into().map(u64::from_le_bytes).ok())?
}

/// Writes a file aside and renames it into place; with `durable` it survives a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&aside, path)?;
    if durable {
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    } else {
        Ok(())
    }
}

/// Makes names in `dir` survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
