//! The files that configure the WebAssembly functions: advertisers and variables, by default those of the demo.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The key of the demo's KYC provider.
pub(crate) const DEMO_KYC_KEY: &str = "demo key of the identity service";

const DEMO_ADVERTISERS: &str = r#"# Advertisers of the demo.
[plain-shop]
offers = ["boyfanz", "girlfanz", "elitetube", "fanzmeet"]
dialect = "generic"
currency = "USD"
auth = [{ secret_parameter = { name = "token", value = "demo-secret-of-plain" } }]

[voluum-shop]
links = "any"
dialect = "voluum"
currency = "EUR"
auth = [{ secret_path = "demo-secret-of-voluum" }]

[keitaro-shop]
links = "any"
dialect = "keitaro"
currency = "USD"
auth = [{ secret_path = "demo-secret-of-keitaro" }]
path_keys = ["demo-secret-of-keitaro"]

[tune-shop]
links = "any"
dialect = "tune"
currency = "USD"
auth = [{ addresses = ["127.0.0.0/8"] }]
"#;

/// Contents of the functions' files.
#[derive(Debug, Clone)]
pub struct FunctionFiles {
    /// `advertisers.toml`.
    pub advertisers: String,
    /// `variables.toml`: lines of `name = "value"`.
    pub variables: String,
}

impl FunctionFiles {
    /// The files of the demo.
    pub(crate) fn demo() -> Self {
        Self {
            advertisers: DEMO_ADVERTISERS.into(),
            variables: format!("kyc_keys = \"{DEMO_KYC_KEY}\"\n"),
        }
    }
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("failed to write {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// The HMAC-SHA256 of `text`, as KYC providers and affiliates' postbacks are signed.
#[must_use]
pub fn signature(key: &str, text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    let mac = mac.expect("HMAC takes keys of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}
