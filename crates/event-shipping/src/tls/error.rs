//! Errors of reading, creating and using certificates.

use daemon::files::PrivateFileError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Certificates that can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read, written or renamed.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A file lacks the required PEM section.
    #[error("{path} lacks the required PEM section: {cause}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        cause: String,
    },
    /// The key can't be read, or other users can read it.
    #[error(transparent)]
    Key(#[from] PrivateFileError),
    /// A line of the revocation list is not a fingerprint.
    #[error("{path}:{line}: {cause}", path = path.display())]
    Revocation {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The line's error.
        cause: super::InvalidFingerprint,
    },
    /// A directory without certificates.
    #[error(
        "{dir} holds no ca.pem: issue certificates with `aggregator {command} --out {dir}` \
         (docs/operations.md, Certificates), or set tls.development = true to create development certificates",
        dir = dir.display()
    )]
    Absent {
        /// The directory.
        dir: PathBuf,
        /// The command that issues the certificates.
        command: String,
    },
    /// A directory with other files, in which no development certificates are created.
    #[error(
        "{dir} holds files but no ca.pem; put ca.pem, <role>.pem and <role>.key there, or name an absent \
         directory to create development certificates", dir = .0.display()
    )]
    Foreign(PathBuf),
    /// A directory that would be overwritten.
    #[error("{dir} exists and is not empty; name a new directory", dir = .0.display())]
    Occupied(PathBuf),
    /// A certificate could not be generated.
    #[error("the certificate could not be generated: {0}")]
    Generate(#[from] rcgen::Error),
    /// A certificate can't be parsed.
    #[error("the certificate can't be parsed: {0}")]
    Certificate(String),
    /// An edge's certificate for other nodes.
    #[error(
        "{path} names the nodes {nodes:?}, not node {node}; issue one: aggregator \
         issue-edge-certificate --node {node}", path = path.display()
    )]
    WrongNode {
        /// The certificate.
        path: PathBuf,
        /// The nodes in the certificate.
        nodes: Vec<u16>,
        /// The node in the settings.
        node: u16,
    },
    /// An expired certificate.
    #[error("{} has expired; issue a new one", .0.display())]
    Expired(PathBuf),
    /// The port can't be opened.
    #[error("can't listen on {addr}: {cause}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// The key does not belong to the certificate, or one of them can't be used.
    #[error("{path} can't be used: {cause}", path = path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
}

/// The error of the file at `path`.
pub(super) fn file_error(path: &Path, cause: io::Error) -> TlsError {
    let path = path.to_owned();
    TlsError::File { path, cause }
}
