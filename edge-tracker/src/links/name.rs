//! Names in links: slugs, and the names of offers, campaigns and affiliates.

use serde::Deserialize;
use std::ops::Deref;
use thiserror::Error;

/// A link's short path: 1 to 64 of `A-Z a-z 0-9 - _ .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Slug(Box<str>);

/// The name of an offer, a campaign or an affiliate: 1 to 64 visible characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Box<str>);

/// A name that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a slug.
    #[error("a slug is 1 to 64 of the characters A-Z a-z 0-9 - _ .")]
    Slug,
    /// Not a name.
    #[error("a name is 1 to 64 characters without control characters")]
    Name,
}

impl Slug {
    /// The longest slug, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The text.
    #[must_use]
    pub fn into_inner(self) -> Box<str> {
        self.0
    }
}

impl Name {
    const MAX_CHARS: usize = 64;

    /// The beginning of a longer name, for events.
    #[must_use]
    pub fn shortened(text: &str) -> Self {
        let visible = text.chars().filter(|c| !c.is_control());
        Self(visible.take(Self::MAX_CHARS).collect::<String>().into())
    }
}

impl TryFrom<String> for Slug {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Slug)
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.chars().count())
            && !text.chars().any(char::is_control);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Name)
        }
    }
}

impl Deref for Slug {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
