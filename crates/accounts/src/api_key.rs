//! The form of API keys: `fz_<8 letters>_<43 letters and digits><6 of a checksum>`.
//!
//! The eight letters name the key and are not secret. The 43 are 256 random bits. The checksum (CRC-32C of everything
//! before it) lets a secret scanner recognise `fz_[a-z]{8}_[0-9A-Za-z]{49}` without false alarms, and lets a server
//! refuse a mistyped key without a query.

use crate::error::Refusal;
use crate::ids::KeyId;
use crate::secret::{BASE62, TOKEN_CHARS, hash_at_rest, random_token, secret_text};

const PREFIX: &str = "fz_";
const CHECKSUM_CHARS: usize = 6;

secret_text! {
    /// An API key whose form and checksum are right.
    pub struct ApiKey
}

impl ApiKey {
    /// Checks the form of a key that a client sent.
    ///
    /// # Errors
    /// When form or checksum are wrong.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let key = split(text).filter(|(body, checksum)| checksum_of(body) == *checksum);
        match key {
            Some(_) => Ok(Self::new(text)),
            None => Err(Refusal::MalformedKey),
        }
    }

    pub(crate) fn random(id: &KeyId) -> Self {
        let mut text = format!("{PREFIX}{id}_{}", random_token());
        text += &checksum_of(&text);
        Self::new(text)
    }

    /// The id in the key.
    #[must_use]
    pub fn id(&self) -> Option<KeyId> {
        id_of(self.expose())
    }

    /// The hash at rest. 256 random bits can't be guessed, so that a slow hash would only slow every request down.
    pub(crate) fn hash(&self) -> String {
        hash_at_rest("api key", self.expose())
    }
}

fn id_of(text: &str) -> Option<KeyId> {
    let (id, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
    KeyId::try_from(id.to_owned()).ok()
}

/// A key's text before its checksum, and the checksum.
fn split(text: &str) -> Option<(&str, &str)> {
    id_of(text)?;
    let (_, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_form = secret.len() == TOKEN_CHARS + CHECKSUM_CHARS
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_form.then(|| text.split_at(text.len() - CHECKSUM_CHARS))
}

fn checksum_of(body: &str) -> String {
    let mut rest = crc32c::crc32c(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits.iter().copied().map(char::from).collect()
}
