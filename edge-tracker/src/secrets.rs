//! The fleet's secrets: the keys of click ids. Created at the first start when absent, and reloaded while the node
//! runs.

use daemon::files::{PrivateFileError, read_private};
use daemon::private;
use daemon::settings::{line_at, offset_of};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tracking_events::{KeyId, KeyRing, MacKey};

/// Enough for the maximum number of keys and a page of comments.
const MAX_FILE_BYTES: u64 = 64 << 10;
const NOT_HEX: &str = "a secret is 64 hexadecimal digits, as `openssl rand -hex 32` prints";
const EXPECTED: &str = "expected [click_id] with active = NUMBER, and [click_id.keys] with lines of \
     NUMBER = \"64 hexadecimal digits\"";

/// The secrets of the fleet.
#[derive(Debug)]
pub struct Secrets {
    /// Keys that sign click ids.
    pub click_ids: KeyRing,
    /// The same keys for functions, which verify: `1:HEX,2:HEX`.
    pub click_id_keys: KeysText,
}

/// Keys as a function's variable; it has no other text form, so that it can't reach a log.
#[derive(Clone)]
pub struct KeysText(String);

impl From<KeysText> for String {
    fn from(keys: KeysText) -> Self {
        keys.0
    }
}

impl std::fmt::Debug for KeysText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeysText(…)")
    }
}

/// Secrets that can't be used.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// The file can't be read or created, or other users can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is malformed. Its text is not shown because it is secret.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The correction.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsFile {
    click_id: ClickIdKeys,
    /// The base of visitor ids in earlier builds.
    visitor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClickIdKeys {
    active: u8,
    keys: BTreeMap<String, Hex32>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex32([u8; 32]);

impl TryFrom<String> for Hex32 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = HEX
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(NOT_HEX)
    }
}

/// Creates new secrets at `path` unless there are some.
///
/// # Errors
/// When the file can't be created.
pub fn create_absent(path: &Path) -> Result<(), SecretsError> {
    if !path.exists() {
        create(path).map_err(|cause| PrivateFileError::Io {
            path: path.into(),
            cause,
        })?;
    }
    Ok(())
}

/// Reads the secrets at `path`.
///
/// # Errors
/// When the file can't be read, is readable by other users, or is malformed.
pub fn load(path: &Path) -> Result<Secrets, SecretsError> {
    let text = read_private(path, MAX_FILE_BYTES)?;
    let wrong = |line, message: &str| SecretsError::Wrong {
        path: path.into(),
        line,
        message: message.into(),
    };
    let file: SecretsFile = toml::from_str(&text).map_err(|error| {
        let line = line_at(&text, offset_of(&error));
        wrong(line, safe_message(error.message()))
    })?;
    if file.visitor.is_some() {
        tracing::warn!(file = %path.display(), "[visitor] in the secrets file is unused: remove it; visitor ids follow from the file visitor-salt");
    }
    let key_text = |(id, key): (&String, &Hex32)| format!("{id}:{}", HEX.encode(&key.0));
    let texts: Vec<String> = file.click_id.keys.iter().map(key_text).collect();
    let line_of = |start: &str| {
        let mut lines = text.lines();
        lines
            .position(|it| it.trim_start().starts_with(start))
            .map_or(1, |at| at + 1)
    };
    let mut keys = Vec::new();
    for (name, key) in file.click_id.keys {
        let id = name.parse().ok().and_then(|id| KeyId::new(id).ok());
        let id = id.ok_or_else(|| wrong(line_of(&name), "click id keys are numbered 0 to 31"))?;
        keys.push((id, MacKey::new(key.0)));
    }
    let active = || line_of("active");
    let id =
        KeyId::new(file.click_id.active).map_err(|error| wrong(active(), &error.to_string()))?;
    let click_ids = KeyRing::new(id, keys).map_err(|error| wrong(active(), &error.to_string()))?;
    Ok(Secrets {
        click_ids,
        click_id_keys: KeysText(texts.join(",")),
    })
}

/// A message without values of the file, which the parser's own messages may repeat.
fn safe_message(message: &str) -> &str {
    if message == NOT_HEX || message.starts_with("missing field") {
        message
    } else {
        EXPECTED
    }
}

fn create(path: &Path) -> io::Result<()> {
    let text = format!(
        "# Secrets of this fleet: the same file on every edge, read again when it changes. To rotate a\n\
         # click id key, add one on every edge, then make it active, and keep the old one for as long as\n\
         # its clicks may convert.\n\
         [click_id]\nactive = 1\n\n[click_id.keys]\n1 = \"{}\"\n",
        random_key()?
    );
    if private::create(path, &text)? {
        tracing::warn!(file = %path.display(), "created new secrets; copy the file to every edge of the fleet");
    }
    Ok(())
}

/// 32 random bytes in hexadecimal.
fn random_key() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(HEX.encode(&bytes))
}
