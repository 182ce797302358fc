//! The tokens with which hosts of functions authenticate at the internal API: a file of one or two lines, created at
//! the first start and reloaded when it changes.

use daemon::files::{PrivateFileError, read_private};
use daemon::private;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Enough for two tokens and a page of comments.
const MAX_FILE_BYTES: u64 = 16 << 10;
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 32..=256;
const MAX_TOKENS: usize = 2;

/// The tokens of a file; the first one is for new hosts.
#[derive(Clone)]
pub struct Tokens(Vec<String>);

/// Without its content, which is secret.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// A file of tokens that can't be used. Its text is not shown: it is secret.
#[derive(Debug, Error)]
pub enum TokensError {
    /// It can't be read or created, or other users can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A line is no token.
    #[error(
        "{}:{line}: a token has 32 to 256 letters, digits and signs without spaces, as \
         `openssl rand -hex 32` prints",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// It has too few or too many tokens.
    #[error(
        "{}: {found} tokens; one is expected, or two during an exchange, the new one first",
        path.display()
    )]
    Number {
        /// The file.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
}

/// Creates a file with a new token at `path` unless there is one.
///
/// # Errors
/// When the file can't be created.
pub fn create_absent(path: &Path) -> Result<(), TokensError> {
    if !path.exists() {
        let text = format!(
            "# The token by which this edge's internal API knows hosts of functions. To exchange it, put a new one \
             before it,\n# export the settings of those hosts again, then remove the old one.\n{}\n",
            super::variables::token()
        );
        private::create(path, &text).map_err(|cause| PrivateFileError::Io {
            path: path.into(),
            cause,
        })?;
    }
    Ok(())
}

/// Reads the tokens at `path`.
///
/// # Errors
/// When the file can't be read, is readable by other users, or is malformed.
pub fn load(path: &Path) -> Result<Tokens, TokensError> {
    let text = read_private(path, MAX_FILE_BYTES)?;
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_token =
            TOKEN_BYTES.contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token {
            let (path, line) = (path.into(), at + 1);
            return Err(TokensError::Malformed { path, line });
        }
        tokens.push(line.to_owned());
    }
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        let (path, found) = (path.into(), tokens.len());
        return Err(TokensError::Number { path, found });
    }
    Ok(Tokens(tokens))
}

impl Tokens {
    /// A single token that only this process knows.
    pub(super) fn only(token: String) -> Self {
        Self(vec![token])
    }

    /// The token for new hosts.
    #[must_use]
    pub fn newest(&self) -> &str {
        &self.0[0]
    }

    /// All tokens.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
