//! The revocation list: fingerprints of revoked certificates, one per line.

use super::error::file_error;
use super::{Certificate, Fingerprint, TlsError};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// The maximum length of the list, enough for more than 100,000 fingerprints.
const MAX_LIST_BYTES: u64 = 8 << 20;

/// The revoked certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList(BTreeSet<Fingerprint>);

impl RevocationList {
    /// Reads `revoked.txt`; without the file no certificate is revoked.
    ///
    /// # Errors
    /// When the file can't be read or a line is not a fingerprint.
    pub(super) fn load(path: &Path) -> Result<Self, TlsError> {
        let length = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(file_error(path, cause)),
        };
        if length > MAX_LIST_BYTES {
            return Err(file_error(path, io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| file_error(path, cause))?;
        let lines = text.lines().zip(1..).filter_map(|(text, line)| {
            let text = text.split('#').next().unwrap_or_default().trim();
            (!text.is_empty()).then_some((text, line))
        });
        let listed = lines.map(|(text, line)| {
            text.parse().map_err(|cause| TlsError::Revocation {
                path: path.to_owned(),
                line,
                cause,
            })
        });
        Ok(Self(listed.collect::<Result<_, _>>()?))
    }

    /// The number of revoked certificates.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no certificate is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `certificate` is revoked.
    #[must_use]
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.0.contains(&certificate.fingerprint())
    }
}
