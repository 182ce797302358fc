//! The file of a ratchet: readable by its owner only, and replaced atomically.

use crate::{PeriodKey, Ratchet, SaltState};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

const FORMAT_VERSION: u8 = 1;
const MAX_FILE_BYTES: u64 = 4 << 10;
const FILE_COMMENT: &str = "# The salt of visitor ids in the current period. It is replaced when the period ends: keep no\n\
     # copies, or ids of the period that a copy was made in can be traced back to addresses.\n";

/// A salt file that can't be used. The messages contain no values of the file.
#[derive(Debug, Error)]
pub enum SaltFileError {
    /// The file can't be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Other users can read the file.
    #[error("{} is readable by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// The content is not a salt of this format.
    #[error(
        "{} is not a visitor salt of format {FORMAT_VERSION}; remove it, then the node gets the fleet's salt \
         from the aggregator", .0.display()
    )]
    Malformed(PathBuf),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SaltFile {
    format: u8,
    period_micros: u64,
    period: u64,
    provisional: bool,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key: Option<String>,
}

/// Reads the ratchet in the file at `path`; `None` when the file does not exist.
///
/// # Errors
/// When the file can't be read, is readable by other users, or is malformed.
pub fn load(path: &Path) -> Result<Option<Ratchet>, SaltFileError> {
    let failed = |cause| SaltFileError::Io {
        path: path.into(),
        cause,
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed)?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(SaltFileError::Exposed(path.into()));
    }
    let malformed = || SaltFileError::Malformed(path.into());
    if metadata.len() > MAX_FILE_BYTES {
        return Err(malformed());
    }
    let text = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|_| malformed())?;
    let ratchet = parse(&text).ok_or_else(malformed)?;
    Ok(Some(ratchet))
}

fn parse(text: &str) -> Option<Ratchet> {
    let fields: SaltFile = toml::from_str(text).ok()?;
    if fields.format != FORMAT_VERSION || fields.period_micros == 0 {
        return None;
    }
    let previous_key = match fields.previous_key {
        Some(text) => Some(PeriodKey(decode_hex(&text)?)),
        None => None,
    };
    Some(Ratchet {
        period_micros: fields.period_micros,
        period: fields.period,
        state: SaltState(decode_hex(&fields.state)?),
        previous_key,
        provisional: fields.provisional,
    })
}

fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

/// Replaces the file at `path` atomically and durably, then overwrites the old content in place, as far
/// as the file system allows.
///
/// # Errors
/// When the disk is full or fails; the file then has either the old or the new content.
pub fn save(path: &Path, ratchet: &Ratchet) -> Result<(), SaltFileError> {
    let fields = SaltFile {
        format: FORMAT_VERSION,
        period_micros: ratchet.period_micros,
        period: ratchet.period,
        provisional: ratchet.provisional,
        state: HEXLOWER.encode(&ratchet.state.0),
        previous_key: ratchet.previous_key.map(|key| HEXLOWER.encode(&key.0)),
    };
    let replaced = toml::to_string(&fields)
        .map_err(io::Error::other)
        .and_then(|text| replace(path, &format!("{FILE_COMMENT}{text}")));
    replaced.map_err(|cause| SaltFileError::Io {
        path: path.into(),
        cause,
    })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let before = OpenOptions::new().write(true).open(path);
    let temporary = path.with_extension("tmp");
    // A temporary file of an interrupted process may have other permissions.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()?;
    if let Ok(before) = before {
        overwrite(before)?;
    }
    Ok(())
}

/// Overwrites the old content, which only this handle still refers to.
fn overwrite(mut file: File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_ratchet_is_loaded_and_private() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("data/visitor-salt");
        assert!(load(&path).expect("readable").is_none());
        let mut ratchet = Ratchet::random(1_000, 41)
            .expect("randomness")
            .provisional();
        for period in 41..44 {
            ratchet.advance_to(period);
            save(&path, &ratchet).expect("written");
            assert_eq!(load(&path).expect("readable"), Some(ratchet.clone()));
        }
        let mode = fs::metadata(&path)
            .expect("the file exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions set");
        assert!(matches!(load(&path), Err(SaltFileError::Exposed(_))));
    }

    #[test]
    fn malformed_files_are_rejected_without_showing_values() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("visitor-salt");
        let ratchet = Ratchet::random(1_000, 41).expect("randomness");
        save(&path, &ratchet).expect("written");
        let text = fs::read_to_string(&path).expect("readable");
        let secret = HEXLOWER.encode(&ratchet.state().0);
        for wrong in [
            text.replace("format = 1", "format = 2"),
            text.replace(&secret, &secret[2..]),
            text.replace("period_micros = 1000", "period_micros = 0"),
            text.replace("period = 41", "period = -1"),
            "x".repeat(5_000),
            String::new(),
        ] {
            fs::write(&path, wrong).expect("writable");
            let error = load(&path).expect_err("malformed").to_string();
            assert!(
                error.contains("remove it") && !error.contains(&secret[2..]),
                "{error}"
            );
        }
    }
}
