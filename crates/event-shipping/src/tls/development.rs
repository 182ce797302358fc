//! Certificates for development: issued on first start by an authority in a directory of its own.

use super::{
    AUTHORITY_VALIDITY_DAYS, Authority, CERTIFICATE_VALIDITY_DAYS, Identity, IdentityFiles, Role,
    Subject, TlsError, load,
};
use std::path::{Path, PathBuf};

const AUTHORITY_DIRECTORY: &str = "authority";

/// The directory of the authority that issues development certificates for `dir`: `authority` in the
/// same parent directory. Aggregators and edges with the same parent directory share it.
#[must_use]
pub fn development_authority(dir: &Path) -> PathBuf {
    dir.with_file_name(AUTHORITY_DIRECTORY)
}

/// Reads the files of `subject` in `dir`. Missing files are created for `development` only: a misspelt
/// directory must not get certificates of another authority.
///
/// # Errors
/// As [`load_or_create`], and when files are missing without `development`.
pub fn open(dir: &Path, subject: &Subject, development: bool) -> Result<Identity, TlsError> {
    if development {
        return load_or_create(dir, subject);
    }
    require_present(dir, subject)?;
    load(&IdentityFiles::of(dir, Role::from(subject)))
}

/// Checks that `dir` holds certificates.
///
/// # Errors
/// When it does not; the message names the command that issues certificates for `subject`.
pub fn require_present(dir: &Path, subject: &Subject) -> Result<(), TlsError> {
    if dir.join("ca.pem").exists() {
        return Ok(());
    }
    let command = match subject {
        Subject::Aggregator => "issue-aggregator-certificate".to_owned(),
        Subject::Edge(nodes) => {
            let node = nodes.first().copied().unwrap_or_default();
            format!("issue-edge-certificate --node {node}")
        }
    };
    Err(TlsError::Absent {
        dir: dir.to_owned(),
        command,
    })
}

/// Reads `ca.pem`, `<role>.pem` and `<role>.key` in `dir`.
///
/// An absent or empty `dir` gets a development certificate for `subject` from the authority in
/// [`development_authority`], which is created when absent. Processes that start concurrently agree on
/// one authority.
///
/// # Errors
/// When files can't be read or created, or `dir` holds other files.
pub fn load_or_create(dir: &Path, subject: &Subject) -> Result<Identity, TlsError> {
    if !dir.join("ca.pem").exists() {
        let issued = open_or_create_authority(&development_authority(dir))
            .and_then(|authority| authority.issue(subject, CERTIFICATE_VALIDITY_DAYS, dir));
        match issued {
            // Another process created the files first.
            Err(TlsError::Occupied(_)) if dir.join("ca.pem").exists() => {}
            Err(TlsError::Occupied(dir)) => return Err(TlsError::Foreign(dir)),
            issued => drop(issued?),
        }
    }
    load(&IdentityFiles::of(dir, Role::from(subject)))
}

fn open_or_create_authority(dir: &Path) -> Result<Authority, TlsError> {
    if !dir.join("ca.pem").exists() {
        match Authority::create(dir, AUTHORITY_VALIDITY_DAYS) {
            // Another process created the authority first.
            Err(TlsError::Occupied(_)) if dir.join("ca.pem").exists() => {}
            created => created?,
        }
    }
    Authority::open(dir)
}
