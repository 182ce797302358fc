//! Decides which connections to databases are safe: TLS with a verified certificate, the loopback of this machine, and
//! plain text only if the operator allows it.

use super::{ClickHouseSettings, InvalidSettings};
use daemon::hosts::is_loopback;
use http::Uri;
use http::uri::Scheme;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;

/// The transport of a database connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Encrypted, with verification of the server's certificate.
    Tls,
    /// Plain text on this machine.
    Loopback,
    /// Plain text over a network.
    Plaintext,
}

impl ClickHouseSettings {
    /// The transport of a connection to the server at `url`.
    ///
    /// # Errors
    /// When the URL can't be used, or leads over a network in plain text without permission.
    pub(crate) fn transport(&self, url: &str) -> Result<Transport, InvalidSettings> {
        let url: Uri = url.parse().map_err(|_| InvalidSettings::Url)?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(InvalidSettings::Url);
        };
        let rest = url.path_and_query().map_or("/", |rest| rest.as_str());
        if authority.host().is_empty() || authority.as_str().contains('@') || rest != "/" {
            return Err(InvalidSettings::Url);
        }
        if *scheme == Scheme::HTTPS {
            return Ok(Transport::Tls);
        }
        if *scheme != Scheme::HTTP {
            return Err(InvalidSettings::Url);
        }
        if self.ca_file.is_some() {
            return Err(InvalidSettings::UnusedAuthorities);
        }
        if is_loopback(authority.host()) {
            return Ok(Transport::Loopback);
        }
        if self.allow_plaintext {
            return Ok(Transport::Plaintext);
        }
        Err(InvalidSettings::Plaintext)
    }

    /// The authorities of the server's certificate: those of `ca_file` and no others, or by default those that browsers
    /// trust.
    ///
    /// # Errors
    /// When the file can't be read or contains no certificates.
    pub fn authorities(&self) -> Result<RootCertStore, InvalidSettings> {
        match &self.ca_file {
            Some(path) => read_authorities(path),
            None => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        }
    }
}

fn read_authorities(path: &Path) -> Result<RootCertStore, InvalidSettings> {
    let failed = |cause: String| InvalidSettings::Authorities {
        path: path.into(),
        cause,
    };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let added = store.add(certificate);
        added.map_err(|error| failed(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(failed("contains no certificate".to_owned()));
    }
    Ok(store)
}
