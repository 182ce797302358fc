//! `advertisers.toml`, handed to functions as the entries of a key-value store. What is in it only the
//! postback function's crate knows.

use super::variables::MAX_BYTES;
use daemon::files::{PrivateFileError, read_private};
use daemon::settings::{SettingsErrors, redacted_error_at};
use std::collections::BTreeMap;
use std::path::Path;
use thiserror::Error;

/// Advertisers that can't be used.
#[derive(Debug, Error)]
pub enum AdvertisersError {
    /// The file can't be read, or others can.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not what it should be.
    #[error(transparent)]
    Wrong(#[from] SettingsErrors),
}

/// Reads the file at `path` and says how many advertisers it has.
///
/// # Errors
/// When an edge would refuse it.
pub fn check(path: &Path) -> Result<usize, AdvertisersError> {
    let entries = read(path)?;
    Ok(entries
        .keys()
        .filter(|key| !key.starts_with("key/"))
        .count())
}

/// Reads the file at `path`: the entries of its text.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, AdvertisersError> {
    let text = read_private(path, MAX_BYTES)?;
    postback::entries(&text).map_err(|mistakes| {
        let mistakes = mistakes.iter();
        let each = mistakes.map(|it| redacted_error_at(path, &text, it.offset, &it.message));
        SettingsErrors(each.collect()).into()
    })
}
