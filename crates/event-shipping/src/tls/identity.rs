//! Reading certificates and keys, and making quinn's configurations of them.

use super::{ALPN, develop, reset, transport};
use daemon::files::{PrivateFileError, read_private};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};
use thiserror::Error;

/// No key is longer, with its certificates in the same file.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Which side of the connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Accepts connections.
    Aggregator,
    /// Opens connections.
    Edge,
}

impl Role {
    /// The stem of this side's file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Edge => "edge",
        }
    }
}

/// Where the PEM files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that sign the other side.
    pub authority: PathBuf,
    /// This side's certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// This side's private key.
    pub key: PathBuf,
}

impl Files {
    /// `ca.pem`, `<role>.pem` and `<role>.key` in `dir`.
    #[must_use]
    pub fn of(dir: &Path, role: Role) -> Self {
        Self {
            authority: dir.join("ca.pem"),
            certificate: dir.join(format!("{}.pem", role.as_str())),
            key: dir.join(format!("{}.key", role.as_str())),
        }
    }
}

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
    /// The key can't be read, or others can read it.
    #[error(transparent)]
    Key(#[from] PrivateFileError),
    /// A file is not PEM of the kind needed.
    #[error("{path} does not hold the PEM section needed: {cause}", path = path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What the parser met.
        cause: String,
    },
    /// A folder with other files, into which no development certificates are put.
    #[error(
        "{dir} holds files but no ca.pem; put ca.pem, <role>.pem and <role>.key there, or name a \
         folder that does not exist to get certificates for development", dir = .0.display()
    )]
    Foreign(PathBuf),
    /// Certificates for development could not be made.
    #[error("certificates for development could not be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// The port can't be opened.
    #[error("can't listen on {addr}: {cause}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Key and certificate don't fit, or can't be used.
    #[error("the certificates can't be used: {0}")]
    Unusable(String),
}

/// This side's certificate and key, and who is trusted on the other.
pub struct Identity {
    authorities: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("authorities", &self.authorities.len())
            .finish_non_exhaustive()
    }
}

/// Reads the PEM files of one side.
///
/// # Errors
/// When a file can't be read or does not hold what it should, or others can read the key.
pub fn load(files: &Files) -> Result<Identity, TlsError> {
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
        authorities: Arc::new(authorities),
        chain: certificates(&files.certificate)?,
        key,
    })
}

/// Reads `ca.pem`, `<role>.pem` and `<role>.key` in `dir`. When `dir` does not exist or is empty it
/// is made, with certificates for development of both roles; processes that start at once agree on
/// one set.
///
/// # Errors
/// When files can't be read or made, or `dir` holds something else.
pub fn load_or_create(dir: &Path, role: Role) -> Result<Identity, TlsError> {
    if !dir.join("ca.pem").exists() {
        develop::create(dir)?;
    }
    load(&Files::of(dir, role))
}

impl Identity {
    /// The edge's side of QUIC.
    ///
    /// # Errors
    /// When certificate and key don't fit.
    pub fn client_config(&self) -> Result<quinn::ClientConfig, TlsError> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(&self.authorities))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).map_err(unusable)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport::edge()));
        Ok(config)
    }

    /// The aggregator's side of QUIC: only peers signed by the authorities get through.
    ///
    /// # Errors
    /// When certificate and key don't fit.
    pub fn server_config(&self) -> Result<quinn::ServerConfig, TlsError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.authorities), provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier.build().map_err(unusable)?)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport::aggregator()));
        Ok(config)
    }
}

impl Identity {
    /// Opens the aggregator's port. One that was killed and started again with the same key tells
    /// edges at once that it does not know their connections, so they need not wait for
    /// [`super::IDLE_TIMEOUT`].
    ///
    /// # Errors
    /// When certificate and key don't fit, or the port can't be opened.
    pub fn listen(&self, addr: SocketAddr) -> Result<quinn::Endpoint, TlsError> {
        let server = self.server_config()?;
        let listen = |cause| TlsError::Listen { addr, cause };
        let socket = std::net::UdpSocket::bind(addr).map_err(listen)?;
        let config = reset::endpoint_config(self.key.secret_der());
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
        let cause = "no certificate in it".to_owned();
        return Err(TlsError::Pem {
            path: path.to_owned(),
            cause,
        });
    }
    Ok(found)
}

fn pem_error(path: &Path, cause: rustls::pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    match cause {
        rustls::pki_types::pem::Error::Io(cause) => TlsError::File { path, cause },
        other => TlsError::Pem {
            path,
            cause: other.to_string(),
        },
    }
}

fn unusable(cause: impl fmt::Display) -> TlsError {
    TlsError::Unusable(cause.to_string())
}
