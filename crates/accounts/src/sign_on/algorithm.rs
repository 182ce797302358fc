//! Algorithms of signatures, and public keys that can verify them.

use crate::fault::TokenFault;
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{Algorithm as DigestAlgorithm, SHA256, SHA512};
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// An algorithm that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// By its name (RFC 7518, RFC 8037, RFC 9864).
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The hash of `at_hash` (OpenID Connect Core, section 3.1.3.6).
    pub(super) fn digest(self) -> &'static DigestAlgorithm {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &SHA256,
            Self::EdDsa => &SHA512,
        }
    }
}

/// A public key.
#[derive(Clone)]
pub(super) enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// Whether the key's type is that of the algorithm: a public RSA key is never a secret of HMAC.
    pub(super) const fn supports(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Self::P256(_), Algorithm::Es256)
                | (Self::Ed25519(_), Algorithm::EdDsa)
        )
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenFault> {
        let verified = match (self, algorithm) {
            (Self::Rsa { n, e }, Algorithm::Rs256) => rsa(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                n,
                e,
                message,
                signature,
            ),
            (Self::Rsa { n, e }, Algorithm::Ps256) => rsa(
                &signature::RSA_PSS_2048_8192_SHA256,
                n,
                e,
                message,
                signature,
            ),
            (Self::P256(point), Algorithm::Es256) => unparsed(
                &signature::ECDSA_P256_SHA256_FIXED,
                point,
                message,
                signature,
            ),
            (Self::Ed25519(key), Algorithm::EdDsa) => {
                unparsed(&signature::ED25519, key, message, signature)
            }
            _ => return Err(TokenFault::UnknownKey),
        };
        verified.map_err(|_| TokenFault::Signature)
    }
}

fn rsa(
    parameters: &'static RsaParameters,
    n: &[u8],
    e: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
}

fn unparsed(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
}

/// Base64url without padding, as all of JOSE.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}
