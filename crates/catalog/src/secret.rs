//! Secrets of advertisers and affiliates. They are never part of an object, of the change log, or of a text for people.

use crate::error::{CatalogError, Reason};
use std::fmt;
use std::ops::RangeInclusive;

/// A shorter one could be guessed.
const BYTES: RangeInclusive<usize> = 16..=1_024;

/// A secret of an advertiser or an affiliate. It can't be compared here: whatever authenticates requests does that, in
/// constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A secret of 16 to 1,024 bytes without control characters.
    ///
    /// # Errors
    /// When it is shorter, longer or not plain; the error does not contain it.
    pub fn new(text: String) -> Result<Self, CatalogError> {
        if BYTES.contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        let message = "a secret has 16 to 1,024 bytes without control characters, such as `openssl rand -hex 16` prints";
        Err(CatalogError::refused(Reason::InvalidSecret, "", message))
    }

    /// The text, for signing, and for sending to the edges.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A secret that was stored.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
