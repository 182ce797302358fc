//! Values of functions' variables: from a file of the operator's, and what the node itself offers.

use crate::secrets::Secrets;
use daemon::files::{PrivateFileError, read_private};
use daemon::settings::{SettingsError, offset_of_key, redacted_error_at};
use data_encoding::HEXLOWER;
use kyc_webhook::Scheme;
use std::collections::BTreeMap;
use std::path::Path;
use thiserror::Error;

/// A file is not longer than this, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 10;

/// The variables that a node offers.
const TOKEN: &str = "tracker_token";
const CLICK_ID_KEYS: &str = "click_id_keys";

/// A file of variables that can't be used. Its text is not shown: it is secret.
#[derive(Debug, Error)]
pub enum VariablesError {
    /// It can't be read, or others can.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not what it should be.
    #[error(transparent)]
    Wrong(#[from] SettingsError),
}

/// Reads lines of `name = "value"`; those of identity webhooks are ones that the webhooks' function accepts.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>, VariablesError> {
    let text = read_private(path, MAX_BYTES)?;
    let wrong = |offset, message| redacted_error_at(path, &text, offset, message);
    let values = toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        wrong(offset, "lines of name = 'value' are expected")
    })?;
    match Scheme::given(&values) {
        Some(Err(message)) => Err(wrong(offset_of_key(&text, message), message).into()),
        Some(Ok(_)) | None => Ok(values),
    }
}

/// What a function may declare to be told.
pub(crate) fn offered(token: String, secrets: &Secrets) -> BTreeMap<String, String> {
    [
        (TOKEN.into(), token),
        (CLICK_ID_KEYS.into(), secrets.click_id_keys.clone().into()),
    ]
    .into()
}

/// Values in the place of those that a running node offers.
pub(super) fn placeholders() -> BTreeMap<String, String> {
    [TOKEN, CLICK_ID_KEYS]
        .map(|name| (name.into(), String::new()))
        .into()
}

/// The word by which functions of this run are known; new at each start.
pub(super) fn token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    HEXLOWER.encode(&bytes)
}
