//! `advertisers.toml`, provided to functions as the entries of a key-value store. Only the postback function's crate
//! knows its format.

use super::variables::MAX_FILE_BYTES;
use daemon::files::{PrivateFileError, read_private};
use daemon::settings::{SettingsErrors, redacted_error_at};
use std::collections::BTreeMap;
use std::path::Path;
use thiserror::Error;

/// Advertisers that can't be used.
#[derive(Debug, Error)]
pub enum AdvertisersError {
    /// The file can't be read, or other users can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is malformed.
    #[error(transparent)]
    Wrong(#[from] SettingsErrors),
}

/// Reads the file at `path` and returns its number of advertisers.
///
/// # Errors
/// When an edge would reject it.
pub fn check(path: &Path) -> Result<usize, AdvertisersError> {
    let entries = read(path)?;
    Ok(entries
        .keys()
        .filter(|key| !key.starts_with("key/"))
        .count())
}

/// Reads the entries of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, AdvertisersError> {
    let text = read_private(path, MAX_FILE_BYTES)?;
    postback::entries(&text).map_err(|mistakes| {
        let mistakes = mistakes.iter();
        let each = mistakes.map(|it| redacted_error_at(path, &text, it.offset, &it.message));
        SettingsErrors(each.collect()).into()
    })
}
