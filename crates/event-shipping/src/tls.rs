//! Authentication of edges and aggregators: certificates, mutual TLS, and QUIC set up for one stream.
//!
//! Invariant: an edge's certificate names each node that it may speak for; keys of authorities never
//! lie in a directory that an edge gets.

mod authority;
mod certificate;
mod develop;
mod error;
mod identity;
mod private;
mod reset;
mod revocation;
mod transport;
mod trust;

pub use authority::{AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS};
pub use certificate::{Certificate, Fingerprint, InvalidFingerprint};
pub use develop::{development_authority, load_or_create, open, require_present};
pub use error::TlsError;
pub use identity::{Files, Identity, Role, Subject, load};
pub use revocation::RevocationList;
pub use transport::{IDLE_TIMEOUT, KEEP_ALIVE};
pub use trust::{Distrust, Trust};

/// The name that the aggregator's certificate carries and edges ask for, wherever it runs.
pub const SERVER_NAME: &str = "aggregator.fanzfiliate.internal";

/// The application protocol both sides must agree on; it changes with the protocol's version.
pub const ALPN: &[u8] = b"fanz-ship/1";
