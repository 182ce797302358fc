//! The fleet's secrets: click id keys and the visitor secret. Made on first start when absent.

use daemon::files::{PrivateFileError, read_private};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tracking_events::{KeyId, KeyRing, MacKey};

/// Room for all keys there can be, and a page of remarks.
const MAX_BYTES: u64 = 64 << 10;

/// What the fleet keeps to itself.
#[derive(Debug)]
pub struct Secrets {
    /// Keys that sign click ids.
    pub click_ids: KeyRing,
    /// The same keys for functions, which verify: `1:HEX,2:HEX`.
    pub click_id_keys: KeysText,
    /// What visitor ids are derived from.
    pub visitor: VisitorSecret,
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

/// A secret of 32 bytes without a text form.
#[derive(Clone, Copy)]
pub struct VisitorSecret(pub [u8; 32]);

/// Secrets that can't be used.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// Can't be read or made, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Not what is expected. The file's text is not shown: it is secret.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What would be right.
        message: String,
    },
}

impl std::fmt::Debug for VisitorSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VisitorSecret(…)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    click_id: ClickIdKeys,
    visitor: Visitor,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClickIdKeys {
    active: u8,
    keys: BTreeMap<String, Hex32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Visitor {
    secret: Hex32,
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
        bytes
            .map(Self)
            .ok_or("a secret is 64 hexadecimal digits, as `openssl rand -hex 32` prints")
    }
}

/// Reads the secrets at `path`; makes them first when there are none.
///
/// # Errors
/// When the file can't be read or made, is readable by others, or is wrong.
pub fn load_or_create(path: &Path) -> Result<Secrets, SecretsError> {
    if !path.exists() {
        create(path).map_err(|cause| PrivateFileError::Io {
            path: path.into(),
            cause,
        })?;
    }
    let text = read_private(path, MAX_BYTES)?;
    let wrong = |line, message: &str| SecretsError::Wrong {
        path: path.into(),
        line,
        message: message.into(),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        wrong(line, &daemon::settings::without_values(error.message()))
    })?;
    let as_text = |(id, key): (&String, &Hex32)| format!("{id}:{}", HEX.encode(&key.0));
    let texts: Vec<String> = file.click_id.keys.iter().map(as_text).collect();
    let mut keys = Vec::new();
    for (id, key) in file.click_id.keys {
        let id = id.parse().ok().and_then(|id| KeyId::new(id).ok());
        keys.push((
            id.ok_or_else(|| wrong(1, "click id keys are numbered 0 to 31"))?,
            MacKey::new(key.0),
        ));
    }
    let active = KeyId::new(file.click_id.active).map_err(|error| wrong(1, &error.to_string()))?;
    let click_ids = KeyRing::new(active, keys).map_err(|error| wrong(1, &error.to_string()))?;
    Ok(Secrets {
        click_ids,
        click_id_keys: KeysText(texts.join(",")),
        visitor: VisitorSecret(file.visitor.secret.0),
    })
}

/// Two nodes may start at once: the file is written aside and linked, the first link wins.
fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map(|()| HEX.encode(&bytes))
            .map_err(io::Error::other)
    };
    let text = format!(
        "# Secrets of this fleet: the same file on every edge. To rotate a click id key, add one,\n\
         # make it active, and keep the old one for as long as its clicks may convert.\n\
         [click_id]\nactive = 1\n\n[click_id.keys]\n1 = \"{}\"\n\n[visitor]\nsecret = \"{}\"\n",
        random()?,
        random()?
    );
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => {
            tracing::warn!(file = %path.display(), "made new secrets; give the same file to every edge of the fleet");
            fs::File::open(folder)?.sync_all()
        }
        other => other,
    }
}
