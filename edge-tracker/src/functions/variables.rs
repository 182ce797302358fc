//! Values of functions' variables: from the operator's file, and those that the node provides.

use crate::secrets::Secrets;
use daemon::files::{PrivateFileError, read_private};
use daemon::settings::{SettingsError, offset_of, offset_of_key, redacted_error_at};
use data_encoding::HEXLOWER;
use kyc_webhook::Scheme;
use std::collections::BTreeMap;
use std::path::Path;
use thiserror::Error;

/// The maximum size of a file.
pub(super) const MAX_FILE_BYTES: u64 = 256 << 10;

/// The variables that a node provides.
const TOKEN: &str = "tracker_token";
const CLICK_ID_KEYS: &str = "click_id_keys";

/// A file of variables that can't be used. Its text is not shown: it is secret.
#[derive(Debug, Error)]
pub enum VariablesError {
    /// It can't be read, or other users can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is malformed.
    #[error(transparent)]
    Wrong(#[from] SettingsError),
}

/// Reads lines of `name = "value"`; variables of identity webhooks are validated by the function's own rules.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>, VariablesError> {
    let text = read_private(path, MAX_FILE_BYTES)?;
    let wrong = |offset, message| redacted_error_at(path, &text, offset, message);
    let values = toml::from_str(&text)
        .map_err(|error| wrong(offset_of(&error), "lines of name = 'value' are expected"))?;
    match Scheme::given(&values) {
        Some(Err(message)) => Err(wrong(offset_of_key(&text, message), message).into()),
        Some(Ok(_)) | None => Ok(values),
    }
}

/// The variables that a function may declare to receive.
pub(crate) fn provided(token: String, secrets: &Secrets) -> BTreeMap<String, String> {
    [
        (TOKEN.into(), token),
        (CLICK_ID_KEYS.into(), secrets.click_id_keys.clone().into()),
    ]
    .into()
}

/// Placeholders for the variables that a running node provides.
pub(super) fn placeholders() -> BTreeMap<String, String> {
    [TOKEN, CLICK_ID_KEYS]
        .map(|name| (name.into(), String::new()))
        .into()
}

/// A random token by which functions of this process authenticate.
pub(super) fn token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system provides random bytes");
    HEXLOWER.encode(&bytes)
}
