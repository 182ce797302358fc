//! Values of functions' variables: from a file of the operator's, and what the node itself offers.

use crate::secrets::Secrets;
use daemon::files::{PrivateFileError, read_private};
use data_encoding::HEXLOWER;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file is not longer than this, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 10;

/// A file of variables that can't be used. Its text is not shown: it is secret.
#[derive(Debug, Error)]
pub enum VariablesError {
    /// It can't be read, or others can.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not what it should be.
    #[error("{}: lines of name = \"value\" are expected", .0.display())]
    Wrong(PathBuf),
}

/// Reads lines of `name = "value"`.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, VariablesError> {
    let text = read_private(path, MAX_BYTES)?;
    toml::from_str(&text).map_err(|_| VariablesError::Wrong(path.into()))
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
