//! The page to return to after a sign-on: a path of this site, never another one (open redirect).

use crate::error::AccountsError;
use serde::{Deserialize, Serialize};
use url::Url;

const MAX_BYTES: usize = 2_048;
const ORIGIN: &str = "https://this-site.invalid";

/// A path with an optional query and fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReturnPath(String);

impl TryFrom<String> for ReturnPath {
    type Error = AccountsError;

    fn try_from(text: String) -> Result<Self, AccountsError> {
        Self::parse(&text)
    }
}

impl From<ReturnPath> for String {
    fn from(path: ReturnPath) -> Self {
        path.0
    }
}

impl ReturnPath {
    /// Checks a target that a client named.
    ///
    /// # Errors
    /// When browsers would not stay on this site, or the path is too long.
    pub fn parse(text: &str) -> Result<Self, AccountsError> {
        if stays_here(text) {
            return Ok(Self(text.to_owned()));
        }
        let message = "a return path starts with one / and names no host, such as /links?page=2";
        Err(AccountsError::invalid("/return_to", message))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Browsers drop tabs and line breaks, and read `\` as `/`: both are refused, before a URL parser has its say.
fn stays_here(text: &str) -> bool {
    let has_unsafe = text
        .bytes()
        .any(|byte| byte == b'\\' || byte <= b' ' || byte >= 0x7f);
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let origin = Url::parse(ORIGIN).expect("the constant is a URL");
    let joined = origin.join(text);
    let same_origin = joined.is_ok_and(|url| url.origin() == origin.origin());
    text.len() <= MAX_BYTES && !has_unsafe && is_path && same_origin
}
