//! Values of functions' variables: from a file of the operator's, and what the node itself offers.

use crate::secrets::Secrets;
use data_encoding::HEXLOWER;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file is not longer than this, in bytes.
const MAX_BYTES: u64 = 256 << 10;

/// A file of variables that can't be used. Its text is not shown: it is secret.
#[derive(Debug, Error)]
pub enum VariablesError {
    /// It can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Others can read it.
    #[error("{} is readable by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// It is not what it should be.
    #[error("{}: lines of name = \"value\" are expected", .0.display())]
    Wrong(PathBuf),
}

/// Reads lines of `name = "value"`.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, VariablesError> {
    let text = secret_text(path)?;
    toml::from_str(&text).map_err(|_| VariablesError::Wrong(path.into()))
}

/// The text of a file that nobody else can read.
pub(super) fn secret_text(path: &Path) -> Result<String, VariablesError> {
    let io = |cause| VariablesError::Io {
        path: path.into(),
        cause,
    };
    let metadata = fs::metadata(path).map_err(io)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(VariablesError::Exposed(path.into()));
    }
    if metadata.len() > MAX_BYTES {
        return Err(io(std::io::ErrorKind::FileTooLarge.into()));
    }
    fs::read_to_string(path).map_err(io)
}

/// What a function may declare to be told.
pub(super) fn offered(token: String, secrets: &Secrets) -> BTreeMap<String, String> {
    [
        ("tracker_token".into(), token),
        ("click_id_keys".into(), secrets.click_id_keys.clone().into()),
    ]
    .into()
}

/// The word by which functions of this run are known; new at each start.
pub(super) fn token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    HEXLOWER.encode(&bytes)
}
