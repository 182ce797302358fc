//! Ids of users, sessions and keys: random texts, so that an id reveals neither how many there are nor another one.

use crate::secret::{BASE62, random_letters, random_text};
use serde::{Deserialize, Serialize};
use sql_store::{Field, Row, SqlError, Value};
use std::fmt;
use thiserror::Error;

/// Letters after the prefix: 131 random bits.
const RANDOM_CHARS: usize = 22;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not an id: expected {0}")]
pub struct NotAnId(&'static str);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $form:literal, $random:expr, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub(crate) fn random() -> Self {
                Self($random)
            }

            /// The id as a text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                if $is_valid(text.as_str()) {
                    Ok(Self(text))
                } else {
                    Err(NotAnId($form))
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<&$name> for Value {
            fn from(id: &$name) -> Self {
                id.0.as_str().into()
            }
        }

        impl Field for $name {
            fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
                Self::try_from(String::read(row, name)?)
                    .map_err(|error| SqlError::UnexpectedValue(format!("{name}: {error}")))
            }
        }
    };
}

text_id! {
    /// A user's id: `usr_` and 22 letters and digits.
    UserId, "usr_ and 22 letters and digits", with_prefix("usr_"), |text| has_form(text, "usr_")
}
text_id! {
    /// A session's public id, by which it is listed and ended: `ses_` and 22 letters and digits. It opens nothing.
    SessionId, "ses_ and 22 letters and digits", with_prefix("ses_"), |text| has_form(text, "ses_")
}
text_id! {
    /// An API key's id: the eight lower-case letters after `fz_`. They are not secret.
    KeyId, "eight lower-case letters", random_letters(), is_key_id
}

fn with_prefix(prefix: &str) -> String {
    prefix.to_owned() + &random_text(BASE62, RANDOM_CHARS)
}

fn has_form(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == RANDOM_CHARS && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn is_key_id(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}
