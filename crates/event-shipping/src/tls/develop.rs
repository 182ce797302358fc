//! Certificates for development: an authority and one certificate for each role.

use super::{Role, SERVER_NAME, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const EDGE_NAME: &str = "edge.fanzfiliate.internal";

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Makes the set in a folder beside `dir` and renames it there; who comes second uses the first's.
pub(super) fn create(dir: &Path) -> Result<(), TlsError> {
    let building = beside(dir);
    let made = build(&building).and_then(|()| match fs::rename(&building, dir) {
        Ok(()) => Ok(()),
        Err(_) if dir.join("ca.pem").exists() => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(TlsError::Foreign(dir.to_owned()))
        }
        Err(cause) => Err(failed(dir, cause)),
    });
    if building.exists() {
        fs::remove_dir_all(&building).map_err(|cause| failed(&building, cause))?;
    }
    made
}

fn beside(dir: &Path) -> PathBuf {
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".making-{}-{attempt}", std::process::id()));
    dir.with_file_name(name)
}

fn build(dir: &Path) -> Result<(), TlsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|cause| failed(dir, cause))?;
    let key = KeyPair::generate()?;
    let params = authority()?;
    write(dir, "ca.pem", &params.self_signed(&key)?.pem(), 0o644)?;
    write(dir, "ca.key", &key.serialize_pem(), 0o600)?;
    let issuer = Issuer::new(params, key);
    member(
        dir,
        Role::Aggregator,
        SERVER_NAME,
        ExtendedKeyUsagePurpose::ServerAuth,
        &issuer,
    )?;
    member(
        dir,
        Role::Edge,
        EDGE_NAME,
        ExtendedKeyUsagePurpose::ClientAuth,
        &issuer,
    )
}

fn authority() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "FanzFiliate development authority");
    Ok(params)
}

fn member(
    dir: &Path,
    role: Role,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?;
    write(
        dir,
        &format!("{}.pem", role.as_str()),
        &certificate.pem(),
        0o644,
    )?;
    write(
        dir,
        &format!("{}.key", role.as_str()),
        &key.serialize_pem(),
        0o600,
    )
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), TlsError> {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|cause| failed(&path, cause))
}

fn failed(path: &Path, cause: io::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        cause,
    }
}
