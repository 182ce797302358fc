//! The engine's users and passwords, created at the first start.

use daemon::files::{PrivateFileError, read_private};
use daemon::private;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The maximum length of the credentials file, far more than two users need.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The users of the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The user that creates tables and writes events.
    pub tracker: User,
    /// The read-only user.
    pub analyst: User,
}

/// A user with its password.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub user: String,
    /// The password; never shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// The credentials file in an engine's data directory, readable by its owner only.
    #[must_use]
    pub fn file(data: &Path) -> PathBuf {
        data.join("credentials.json")
    }

    /// Reads the credentials of the engine in `data`.
    ///
    /// # Errors
    /// When the file can't be read, or other users can read it.
    pub fn load(data: &Path) -> io::Result<Self> {
        let text =
            read_private(&Self::file(data), MAX_FILE_BYTES).map_err(|error| match error {
                PrivateFileError::Io { cause, .. } => cause,
                exposed @ PrivateFileError::Exposed(_) => {
                    io::Error::new(io::ErrorKind::PermissionDenied, exposed)
                }
            })?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) fn load_or_create(data: &Path) -> io::Result<Self> {
        match Self::load(data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(data),
            other => other,
        }
    }

    fn create(data: &Path) -> io::Result<Self> {
        let user = |name: &str| {
            let mut bytes = [0_u8; 24];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            let password = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok::<_, io::Error>(User {
                user: name.into(),
                password,
            })
        };
        let credentials = Self {
            tracker: user("tracker")?,
            analyst: user("analyst")?,
        };
        let text = serde_json::to_string_pretty(&credentials)?;
        if private::create(&Self::file(data), &text)? {
            Ok(credentials)
        } else {
            // Another process was first.
            Self::load(data)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn credentials_readable_by_others_are_rejected() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Credentials::load_or_create(dir.path()).expect("created");
        let path = Credentials::file(dir.path());
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).expect("permissions set");
        let error = Credentials::load_or_create(dir.path()).expect_err("exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
