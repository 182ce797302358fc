//! A private certificate authority: `ca.pem` and `ca.key` in a directory that no edge gets.

use super::certificate::node_uri;
use super::error::file_error;
use super::identity::MAX_KEY_BYTES;
use super::private_files::{create_directory, write_certificate, write_key};
use super::{Certificate, Role, SERVER_NAME, Subject, TlsError};
use daemon::files::read_private;
use domain::Micros;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::fs;
use std::path::Path;
use trusted_clock::EARLIEST_TIME;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// The default validity of an edge's or aggregator's certificate.
pub const CERTIFICATE_VALIDITY_DAYS: u32 = 825;

/// The default validity of an authority's own certificate.
pub const AUTHORITY_VALIDITY_DAYS: u32 = 3_650;

const MICROS_PER_SECOND: u64 = 1_000_000;
const DAY_SECONDS: i64 = 24 * 3_600;
const AUTHORITY_NAME: &str = "FanzFiliate authority";
const AUTHORITY_CERTIFICATE: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";

/// A certificate authority that issues certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Creates an authority's certificate and key in `dir`, which must be absent or empty.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn create(dir: &Path, days: u32) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        set_validity(&mut params, days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY_NAME);
        let certificate = params.self_signed(&key)?;
        create_directory(dir, |dir| {
            write_certificate(&dir.join(AUTHORITY_CERTIFICATE), &certificate.pem())?;
            write_key(&dir.join(AUTHORITY_KEY), &key.serialize_pem())
        })
    }

    /// Reads an authority's certificate and key.
    ///
    /// # Errors
    /// When a file can't be read, or the key does not belong to the certificate.
    pub fn open(dir: &Path) -> Result<Self, TlsError> {
        let (path, key_path) = (dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY));
        let pem_error = |path: &Path, cause: String| TlsError::Pem {
            path: path.to_owned(),
            cause,
        };
        let certificate = fs::read_to_string(&path).map_err(|cause| file_error(&path, cause))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|cause| pem_error(&path, cause.to_string()))?;
        let key = read_private(&key_path, MAX_KEY_BYTES)?;
        let key =
            KeyPair::from_pem(&key).map_err(|cause| pem_error(&key_path, cause.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|cause| pem_error(&path, cause.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(pem_error(
                &key_path,
                "the key does not belong to ca.pem".into(),
            ));
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            certificate,
        })
    }

    /// Issues a certificate with a new key to `dir`, which must be absent or empty; the directory also
    /// gets the authority's certificate.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn issue(&self, subject: &Subject, days: u32, dir: &Path) -> Result<Certificate, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        set_validity(&mut params, days)?;
        let (names, usage) = match subject {
            Subject::Aggregator => (
                vec![SanType::DnsName(Ia5String::try_from(SERVER_NAME)?)],
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            Subject::Edge(nodes) => {
                let names = nodes.iter().map(|node| {
                    let uri = Ia5String::try_from(node_uri(*node))?;
                    Ok::<_, rcgen::Error>(SanType::URI(uri))
                });
                (
                    names.collect::<Result<_, _>>()?,
                    ExtendedKeyUsagePurpose::ClientAuth,
                )
            }
        };
        params.subject_alt_names = names;
        params
            .distinguished_name
            .push(DnType::CommonName, subject.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let stem = Role::from(subject).as_str();
        create_directory(dir, |dir| {
            write_certificate(&dir.join(AUTHORITY_CERTIFICATE), &self.certificate)?;
            write_certificate(&dir.join(format!("{stem}.pem")), &certificate.pem())?;
            write_key(&dir.join(format!("{stem}.key")), &key.serialize_pem())
        })?;
        Certificate::parse(vec![certificate.der().clone()])
    }
}

/// Sets the validity from 1970, so that an edge with a reset clock can still ship, until `days` from now,
/// or from the build date if this machine's clock was reset.
fn set_validity(params: &mut CertificateParams, days: u32) -> Result<(), TlsError> {
    let now = Micros::now().max(EARLIEST_TIME);
    let now = i64::try_from(now.0 / MICROS_PER_SECOND).unwrap_or(i64::MAX);
    let at = |seconds| {
        ASN1Time::from_timestamp(seconds)
            .map(|time| time.to_datetime())
            .map_err(|cause| TlsError::Certificate(cause.to_string()))
    };
    params.not_before = at(0)?;
    params.not_after = at(now.saturating_add(i64::from(days) * DAY_SECONDS))?;
    Ok(())
}
