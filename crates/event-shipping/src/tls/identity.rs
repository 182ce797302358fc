//! Reads certificates, keys and revocation lists, and builds quinn's configurations from them.

use super::error::file_error;
use super::{ALPN, Certificate, RevocationList, TlsError, Trust, stateless_reset, transport};
use daemon::files::read_private;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The maximum length of a key file, which may also contain certificates.
pub(super) const MAX_KEY_BYTES: u64 = 64 << 10;

/// The side of the connection that a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Accepts connections.
    Aggregator,
    /// Opens connections.
    Edge,
}

impl Role {
    /// The stem of the role's file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Edge => "edge",
        }
    }
}

/// The subject of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An aggregator.
    Aggregator,
    /// An edge with these nodes; one node, except in simulations of several.
    Edge(Vec<u16>),
}

impl From<&Subject> for Role {
    fn from(subject: &Subject) -> Self {
        match subject {
            Subject::Aggregator => Self::Aggregator,
            Subject::Edge(_) => Self::Edge,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregator => f.write_str("aggregator"),
            Self::Edge(nodes) => match nodes.as_slice() {
                [node] => write!(f, "edge {node}"),
                nodes => write!(f, "{} edges", nodes.len()),
            },
        }
    }
}

/// The paths of one side's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificates of the authorities that sign the other side (PEM).
    pub authority: PathBuf,
    /// This side's certificate and its intermediate certificates (PEM).
    pub certificate: PathBuf,
    /// This side's private key (PEM).
    pub key: PathBuf,
    /// The fingerprints of the other side's revoked certificates; the file may be absent.
    pub revoked: PathBuf,
}

impl IdentityFiles {
    /// `ca.pem`, `<role>.pem`, `<role>.key` and `revoked.txt` in `dir`.
    #[must_use]
    pub fn of(dir: &Path, role: Role) -> Self {
        Self {
            authority: dir.join("ca.pem"),
            certificate: dir.join(format!("{}.pem", role.as_str())),
            key: dir.join(format!("{}.key", role.as_str())),
            revoked: dir.join("revoked.txt"),
        }
    }

    /// All paths; when one file changes, all are read again.
    #[must_use]
    pub fn paths(&self) -> [&Path; 4] {
        [&self.authority, &self.certificate, &self.key, &self.revoked]
    }
}

/// This side's certificate and key, and the trusted authorities of the other side.
pub struct Identity {
    path: PathBuf,
    authorities: Arc<RootCertStore>,
    certificate: Certificate,
    key: PrivateKeyDer<'static>,
    revoked: RevocationList,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("authorities", &self.authorities.len())
            .field("certificate", &self.certificate.fingerprint())
            .finish_non_exhaustive()
    }
}

/// Reads the files of one side.
///
/// # Errors
/// When a file can't be read or has the wrong content, or other users can read the key.
pub fn load(files: &IdentityFiles) -> Result<Identity, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(&files.authority)? {
        authorities
            .add(certificate)
            .map_err(|cause| TlsError::Pem {
                path: files.authority.clone(),
                cause: cause.to_string(),
            })?;
    }
    let key = read_private(&files.key, MAX_KEY_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|cause| pem_error(&files.key, cause))?;
    Ok(Identity {
        path: files.certificate.clone(),
        authorities: Arc::new(authorities),
        certificate: Certificate::parse(certificates(&files.certificate)?)?,
        key,
        revoked: RevocationList::load(&files.revoked)?,
    })
}

impl Identity {
    /// This side's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The revoked certificates of the other side.
    #[must_use]
    pub const fn revoked(&self) -> &RevocationList {
        &self.revoked
    }

    /// Checks that the certificate names `node`.
    ///
    /// # Errors
    /// When it does not.
    pub fn require_node(&self, node: u16) -> Result<(), TlsError> {
        if self.certificate.nodes().contains(&node) {
            return Ok(());
        }
        Err(TlsError::WrongNode {
            path: self.path.clone(),
            nodes: self.certificate.nodes().to_vec(),
            node,
        })
    }

    /// Checks that the certificate has not expired.
    ///
    /// # Errors
    /// When it has.
    pub fn require_unexpired(&self) -> Result<(), TlsError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        if u64::try_from(self.certificate.expires_at()).is_ok_and(|expiry| expiry >= now) {
            return Ok(());
        }
        Err(TlsError::Expired(self.path.clone()))
    }

    /// The rules for edges' certificates, as in the TLS handshake.
    ///
    /// # Errors
    /// When the authorities can't be used.
    pub fn trust(&self) -> Result<Trust, TlsError> {
        Ok(Trust {
            verifier: self.verifier()?,
            revoked: self.revoked.clone(),
        })
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.authorities), provider())
            .build()
            .map_err(|cause| self.unusable(cause))
    }

    fn unusable(&self, cause: impl fmt::Display) -> TlsError {
        TlsError::Unusable {
            path: self.path.clone(),
            cause: cause.to_string(),
        }
    }
}

impl Identity {
    /// The edge's QUIC configuration.
    ///
    /// # Errors
    /// When the key does not belong to the certificate.
    pub fn client_config(&self) -> Result<quinn::ClientConfig, TlsError> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|cause| self.unusable(cause))?
            .with_root_certificates(Arc::clone(&self.authorities))
            .with_client_auth_cert(self.certificate.chain().to_vec(), self.key.clone_key())
            .map_err(|cause| self.unusable(cause))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).map_err(|cause| self.unusable(cause))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport::edge()));
        Ok(config)
    }

    /// The aggregator's QUIC configuration, which accepts only certificates of the authorities.
    ///
    /// # Errors
    /// When the key does not belong to the certificate.
    pub fn server_config(&self) -> Result<quinn::ServerConfig, TlsError> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|cause| self.unusable(cause))?
            .with_client_cert_verifier(self.verifier()?)
            .with_single_cert(self.certificate.chain().to_vec(), self.key.clone_key())
            .map_err(|cause| self.unusable(cause))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).map_err(|cause| self.unusable(cause))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport::aggregator()));
        Ok(config)
    }
}

impl Identity {
    /// Opens the aggregator's port. An aggregator that was killed and restarted with the same key resets
    /// the old connections at once, so that edges need not wait for [`super::IDLE_TIMEOUT`].
    ///
    /// # Errors
    /// When the key does not belong to the certificate, or the port can't be opened.
    pub fn listen(&self, addr: SocketAddr) -> Result<quinn::Endpoint, TlsError> {
        let server = self.server_config()?;
        let listen = |cause| TlsError::Listen { addr, cause };
        let socket = std::net::UdpSocket::bind(addr).map_err(listen)?;
        let config = stateless_reset::endpoint_config(self.key.secret_der());
        let runtime = Arc::new(quinn::TokioRuntime);
        quinn::Endpoint::new(config, Some(server), socket, runtime).map_err(listen)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|cause| pem_error(path, cause))?;
    if found.is_empty() {
        let cause = "the file holds no certificate".to_owned();
        return Err(TlsError::Pem {
            path: path.to_owned(),
            cause,
        });
    }
    Ok(found)
}

fn pem_error(path: &Path, cause: rustls::pki_types::pem::Error) -> TlsError {
    match cause {
        rustls::pki_types::pem::Error::Io(cause) => file_error(path, cause),
        other => TlsError::Pem {
            path: path.to_owned(),
            cause: other.to_string(),
        },
    }
}
