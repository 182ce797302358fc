//! Certificates for development: issued on first start by an authority in a directory of its own.

use super::{
    AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, Files, Identity, Role, Subject, TlsError, load,
};
use std::path::{Path, PathBuf};

const AUTHORITY_DIRECTORY: &str = "authority";

/// The directory of the authority that issues development certificates for `dir`: `authority`
/// beside it. Aggregator and edges whose directories lie beside one another share it.
#[must_use]
pub fn development_authority(dir: &Path) -> PathBuf {
    dir.with_file_name(AUTHORITY_DIRECTORY)
}

/// Reads the files of `subject` in `dir`. Where there are none, they are made for `development`, and
/// otherwise an error: a misspelt directory must not become an authority of its own.
///
/// # Errors
/// As [`load_or_create`], and when there are none.
pub fn open(dir: &Path, subject: &Subject, development: bool) -> Result<Identity, TlsError> {
    if development {
        return load_or_create(dir, subject);
    }
    require_present(dir, subject)?;
    load(&Files::of(dir, Role::from(subject)))
}

/// Whether `dir` holds certificates.
///
/// # Errors
/// When it does not; the message names the command that issues those of `subject`.
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

/// Reads `ca.pem`, `<role>.pem` and `<role>.key` in `dir`. When `dir` does not exist or is empty, it
/// gets a development certificate for `subject` from the authority in [`development_authority`],
/// which is made when absent. Processes that start at once agree on one authority.
///
/// # Errors
/// When files can't be read or made, or `dir` holds something else.
pub fn load_or_create(dir: &Path, subject: &Subject) -> Result<Identity, TlsError> {
    if !dir.join("ca.pem").exists() {
        let issued = open_or_create_authority(&development_authority(dir))
            .and_then(|authority| authority.issue(subject, CERTIFICATE_DAYS, dir));
        match issued {
            // Another process was faster.
            Err(TlsError::Occupied(_)) if dir.join("ca.pem").exists() => {}
            Err(TlsError::Occupied(dir)) => return Err(TlsError::Foreign(dir)),
            issued => drop(issued?),
        }
    }
    load(&Files::of(dir, Role::from(subject)))
}

fn open_or_create_authority(dir: &Path) -> Result<Authority, TlsError> {
    if !dir.join("ca.pem").exists() {
        match Authority::create(dir, AUTHORITY_DAYS) {
            // Another process was faster.
            Err(TlsError::Occupied(_)) if dir.join("ca.pem").exists() => {}
            created => created?,
        }
    }
    Authority::open(dir)
}
