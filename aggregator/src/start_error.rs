//! Errors that prevent the aggregator from starting.

use crate::lock::DirectoryInUse;
use crate::outgoing::OutgoingError;
use crate::verification::ReportsError;
use daemon::state_directory::StateDirectoryError;
use event_shipping::tls;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Why the aggregator can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error("[data_dir] {0}")]
    Data(String),
    /// Another aggregator uses the data directory.
    #[error("[data_dir] {0}")]
    InUse(#[from] DirectoryInUse),
    /// A directory is of another program or of a later version.
    #[error(transparent)]
    StateDirectory(#[from] StateDirectoryError),
    /// The certificates or the port for edges can't be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A port can't be opened.
    #[error("can't listen on {addr} ({what}): {cause}")]
    Listen {
        /// The setting.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The error.
        cause: std::io::Error,
    },
    /// The visitor salt can't be used.
    #[error("[data_dir] {0}")]
    VisitorSalt(#[from] visitor_salt::SaltFileError),
    /// PostgreSQL is configured, but a file of SQLite holds a store that would be ignored.
    #[error(
        "[store] url names PostgreSQL, but {} holds a store: move it with `aggregator store copy`, or, if it \
         is not needed, move the file away", .0.display()
    )]
    StoreLeftBehind(PathBuf),
    /// Metrics can't be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Reports can't be verified.
    #[error(transparent)]
    Reports(#[from] ReportsError),
    /// Postbacks can't be sent.
    #[error("[outgoing] {0}")]
    Outgoing(#[from] OutgoingError),
}
