//! Who may talk: mutual TLS between edges and aggregators, and QUIC set up for one stream.
//!
//! Certificates come from three PEM files; where there are none, a set for development is made.

mod develop;
mod identity;
mod reset;
mod transport;

pub use identity::{Files, Identity, Role, TlsError, load, load_or_create};
pub use transport::{IDLE_TIMEOUT, KEEP_ALIVE};

/// The name that the aggregator's certificate carries and edges ask for, wherever it runs.
pub const SERVER_NAME: &str = "aggregator.fanzfiliate.internal";

/// The application protocol both sides must agree on; it changes with the protocol's version.
pub const ALPN: &[u8] = b"fanz-ship/1";
