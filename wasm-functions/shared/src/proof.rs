//! Proofs of who somebody is, compared in constant time: secrets, and HMAC-SHA256.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Whether `sent` is the secret; an empty one is nobody's.
#[must_use]
pub fn same(secret: &str, sent: &str) -> bool {
    !secret.is_empty() && bool::from(secret.as_bytes().ct_eq(sent.as_bytes()))
}

/// Whether `sent` is the HMAC-SHA256 of the `parts`, one after another, under `key`: in hexadecimal,
/// with or without `sha256=` before it. An empty key is nobody's.
#[must_use]
pub fn signature_holds(key: &[u8], parts: &[&[u8]], sent: &str) -> bool {
    if key.is_empty() {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return false;
    };
    for part in parts {
        mac.update(part);
    }
    let digits = sent.strip_prefix("sha256=").unwrap_or(sent);
    let decoded = HEX.decode(digits.as_bytes());
    // Compares in constant time, and refuses a part of a signature.
    decoded.is_ok_and(|sent| mac.verify_slice(&sent).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    const SIGNATURE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let holds =
            |sent: &str| signature_holds(b"Jefe", &[b"what do ya want ", b"for nothing?"], sent);
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
        assert!(!signature_holds(b"", &[b"what"], SIGNATURE));
        assert!(!signature_holds(
            b"Jefe",
            &[b"what do ya want for something?"],
            SIGNATURE
        ));
    }

    #[test]
    fn an_empty_secret_is_nobody_s() {
        assert!(same("s3cret", "s3cret"));
        assert!(!same("s3cret", "s3cre"));
        assert!(!same("", ""));
    }
}
