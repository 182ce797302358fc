//! Secrets for authentication: sent as they are, or used as the key of an HMAC-SHA256.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq as _;

/// A shared secret, or the key of signatures. It is compared in constant time and has no text form.
///
/// ```
/// let secret = functions_shared::Secret::from("0123456789abcdef".to_owned());
/// assert!(secret.is("0123456789abcdef"));
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// ```
///
/// Any other comparison does not compile:
///
/// ```compile_fail,E0369
/// let secret = functions_shared::Secret::from("0123456789abcdef".to_owned());
/// assert!(secret == "0123456789abcdef");
/// ```
///
/// ```compile_fail,E0369
/// let secret = functions_shared::Secret::from("0123456789abcdef".to_owned());
/// assert!(secret == secret);
/// ```
///
/// ```compile_fail,E0614
/// let secret = functions_shared::Secret::from("0123456789abcdef".to_owned());
/// assert!(*secret == *"0123456789abcdef");
/// ```
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty: an empty secret proves nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `text` contains it. Only for masking: the duration depends on the secret.
    #[must_use]
    pub fn occurs_in(&self, text: &str) -> bool {
        text.contains(&self.0)
    }

    /// Whether `sent` equals this secret; the duration depends on the lengths only.
    #[must_use]
    pub fn is(&self, sent: &str) -> bool {
        !self.is_empty() && bool::from(self.0.as_bytes().ct_eq(sent.as_bytes()))
    }

    /// Whether `sent` is the HMAC-SHA256 of the concatenated `parts` under this key, in hexadecimal with an
    /// optional prefix `sha256=`. Compared in constant time.
    #[must_use]
    pub fn signed(&self, parts: &[&[u8]], sent: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            return false;
        };
        for part in parts {
            mac.update(part);
        }
        let digits = sent.strip_prefix("sha256=").unwrap_or(sent);
        let decoded = HEX.decode(digits.as_bytes());
        // Compares in constant time and rejects truncated signatures.
        decoded.is_ok_and(|sent| mac.verify_slice(&sent).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    const SIGNATURE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let jefe = Secret("Jefe".into());
        let holds = |sent: &str| jefe.signed(&[b"what do ya want ", b"for nothing?"], sent);
        assert!(holds(SIGNATURE));
        assert!(holds(&SIGNATURE.to_uppercase()));
        assert!(holds(&format!("sha256={SIGNATURE}")));
        for wrong in [
            "",
            "sha256=",
            "5b",
            &SIGNATURE[2..],
            &format!("{SIGNATURE}00"),
            "zz",
        ] {
            assert!(!holds(wrong), "{wrong}");
        }
        assert!(!Secret(String::new()).signed(&[b"what"], SIGNATURE));
        assert!(!jefe.signed(&[b"what do ya want for something?"], SIGNATURE));
    }

    #[test]
    fn empty_secret_proves_nothing() {
        let secret = Secret("s3cret".into());
        assert!(secret.is("s3cret"));
        assert!(!secret.is("s3cre"));
        assert!(!Secret(String::new()).is(""));
    }
}
