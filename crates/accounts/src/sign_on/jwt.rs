//! JSON Web Tokens in compact form (RFC 7519, RFC 7515). Nothing of a token is used before its signature is verified,
//! except the name of its algorithm and key.

use super::algorithm::{Algorithm, decode};
use super::claims::Claims;
use super::jwks::KeySet;
use crate::fault::TokenFault;

const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A token whose signature is not verified yet.
pub(super) struct UnverifiedToken<'a> {
    header: Header,
    algorithm: Algorithm,
    signed: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A token with a right signature. Its claims are not checked yet.
pub(super) struct VerifiedToken {
    pub(super) algorithm: Algorithm,
    pub(super) claims: Claims,
    media_type: Option<String>,
}

/// Keys in the header (`jwk`, `jku`, `x5u`, `x5c`) are not read: their sender chose them.
struct Header {
    kid: Option<String>,
    typ: Option<String>,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenFault> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let part = |text| decode(text).ok_or(TokenFault::Malformed);
        let header = Claims::parse(&part(header)?)?;
        if header.has("crit") {
            return Err(TokenFault::CriticalExtension);
        }
        let text = |name| {
            header
                .optional_text(name)
                .map_err(|_| TokenFault::Malformed)
        };
        let algorithm = text("alg")?.ok_or(TokenFault::Malformed)?;
        Ok(Self {
            algorithm: Algorithm::from_name(algorithm).ok_or(TokenFault::Algorithm)?,
            signed: signed.as_bytes(),
            payload: part(payload)?,
            signature: part(signature)?,
            header: Header {
                kid: text("kid")?.map(str::to_owned),
                typ: text("typ")?.map(str::to_owned),
            },
        })
    }

    /// Whether `keys` may contain its key.
    pub(super) fn is_known_to(&self, keys: &KeySet) -> bool {
        !self.candidates(keys).is_empty()
    }

    fn candidates<'k>(&self, keys: &'k KeySet) -> Vec<&'k super::algorithm::PublicKey> {
        keys.candidates(self.header.kid.as_deref(), self.algorithm)
    }

    pub(super) fn verify(self, keys: &KeySet) -> Result<VerifiedToken, TokenFault> {
        let mut verified = Err(TokenFault::UnknownKey);
        for key in self.candidates(keys) {
            verified = key.verify(self.algorithm, self.signed, &self.signature);
            if verified.is_ok() {
                break;
            }
        }
        verified?;
        Ok(VerifiedToken {
            algorithm: self.algorithm,
            claims: Claims::parse(&self.payload)?,
            media_type: self.header.typ,
        })
    }
}

impl VerifiedToken {
    /// Checks the type in the header: a token of one kind must not pass for another (RFC 8725, section 3.11). Types are
    /// compared without case and without the prefix `application/` (RFC 7515, section 4.1.9).
    pub(super) fn check_type(
        &self,
        accepted: &[&str],
        may_be_absent: bool,
    ) -> Result<(), TokenFault> {
        let is_accepted = self.media_type.as_deref().map_or(may_be_absent, |name| {
            let name = name.to_ascii_lowercase();
            accepted.contains(&name.strip_prefix("application/").unwrap_or(&name))
        });
        if is_accepted {
            Ok(())
        } else {
            Err(TokenFault::Type)
        }
    }
}
