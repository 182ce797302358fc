//! Why certificates can't be read, made or used.

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
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file is not PEM of the kind needed.
    #[error("{path} does not hold the PEM section needed: {cause}", path = path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What the parser met.
        cause: String,
    },
    /// The key can't be read, or others can read it.
    #[error(transparent)]
    Key(#[from] PrivateFileError),
    /// A line of the revocation list is no fingerprint.
    #[error("{path}:{line}: {cause}", path = path.display())]
    Revocation {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: super::InvalidFingerprint,
    },
    /// There are no certificates.
    #[error(
        "{dir} holds no ca.pem: issue certificates with `aggregator {command} --out {dir}` \
         (docs/operations.md, Certificates), or set tls.development = true to have some made for development",
        dir = dir.display()
    )]
    Absent {
        /// Where they are expected.
        dir: PathBuf,
        /// The command that issues them.
        command: String,
    },
    /// A directory with other files, into which no development certificates are put.
    #[error(
        "{dir} holds files but no ca.pem; put ca.pem, <role>.pem and <role>.key there, or name a \
         directory that does not exist to get certificates for development", dir = .0.display()
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
    /// An edge's certificate of another node.
    #[error(
        "{path} names the nodes {nodes:?}, not node {node}; issue one: aggregator \
         issue-edge-certificate --node {node}", path = path.display()
    )]
    WrongNode {
        /// The certificate.
        path: PathBuf,
        /// The nodes that it names.
        nodes: Vec<u16>,
        /// The node of the settings.
        node: u16,
    },
    /// A certificate that is no longer valid.
    #[error("{} has expired; issue a new one", .0.display())]
    Expired(PathBuf),
    /// The port can't be opened.
    #[error("can't listen on {addr}: {cause}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Key and certificate don't fit, or can't be used.
    #[error("{path} can't be used: {cause}", path = path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// An error of the file at `path`.
pub(super) fn file_error(path: &Path, cause: io::Error) -> TlsError {
    let path = path.to_owned();
    TlsError::File { path, cause }
}
