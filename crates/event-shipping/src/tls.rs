//! Authentication of edges and aggregators: certificates, mutual TLS, and the QUIC configuration.
//!
//! Invariant: an edge's certificate lists every node that the edge may send events for.
//! Invariant: a directory of an edge never contains an authority's key.

mod authority;
mod certificate;
mod development;
mod error;
mod identity;
mod private_files;
mod revocation;
mod stateless_reset;
mod transport;
mod trust;
mod watched;

pub use authority::{AUTHORITY_VALIDITY_DAYS, Authority, CERTIFICATE_VALIDITY_DAYS};
pub use certificate::{Certificate, Fingerprint, InvalidFingerprint};
pub use development::{development_authority, load_or_create, open, require_present};
pub use error::TlsError;
pub use identity::{Identity, IdentityFiles, Role, Subject, load};
pub use revocation::RevocationList;
pub use transport::{IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL};
pub use trust::{CertificateRejection, Trust};
pub use watched::WatchedIdentity;

/// The name in the aggregator's certificate, which edges verify on any host.
pub const SERVER_NAME: &str = "aggregator.fanzfiliate.internal";

/// The TLS application protocol of both sides; it changes with the protocol version.
pub const ALPN: &[u8] = b"fanz-ship/1";
