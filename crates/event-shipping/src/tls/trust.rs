//! Checks of edges' certificates after the handshake. TLS checks once, but authorities and the
//! revocation list change while connections live.

use super::{Certificate, RevocationList};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// The authorities and the revocation list in use.
#[derive(Clone)]
pub struct Trust {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) revoked: RevocationList,
}

/// Why a certificate is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateRejection {
    /// The certificate is in the revocation list.
    #[error("the certificate is revoked")]
    Revoked,
    /// The certificate has expired, or no present authority has signed it.
    #[error("the certificate is no longer valid: {0}")]
    Invalid(String),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// Checks an edge's certificate as the TLS handshake does, and against the revocation list.
    ///
    /// # Errors
    /// When the certificate is rejected.
    pub fn check(&self, certificate: &Certificate) -> Result<(), CertificateRejection> {
        if self.revoked.contains(certificate) {
            return Err(CertificateRejection::Revoked);
        }
        let intermediates = &certificate.chain()[1..];
        self.verifier
            .verify_client_cert(certificate.leaf(), intermediates, UnixTime::now())
            .map(drop)
            .map_err(|cause| CertificateRejection::Invalid(cause.to_string()))
    }
}
