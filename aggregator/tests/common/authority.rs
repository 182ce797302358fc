//! Certificate authorities for tests, and a TLS-terminating proxy.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The certificate and key of a server named `localhost`, in PEM.
pub struct ServerIdentity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("signed").pem();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    /// Writes the authority's certificate to a file.
    pub fn write(&self, path: PathBuf) -> PathBuf {
        std::fs::write(&path, &self.certificate).expect("written");
        path
    }

    pub fn issue(&self) -> ServerIdentity {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        ServerIdentity {
            certificate,
            key: key.serialize_pem(),
        }
    }
}

impl ServerIdentity {
    /// Writes `server.crt` and `server.key`, readable by their owner only, to `dir`.
    pub fn write(&self, dir: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        for (name, text) in [("server.crt", &self.certificate), ("server.key", &self.key)] {
            let path = dir.join(name);
            std::fs::write(&path, text).expect("written");
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path, mode).expect("permissions set");
        }
    }

    /// Accepts TLS connections, and passes their plain text to a port of this machine.
    pub async fn terminate(&self, port: u16) -> SocketAddr {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of the provider")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("certificate")], key)
            .expect("matching key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        address
    }
}
