//! Secrets: types that no log line or error can print, random texts, hashes at rest and sealed values.
//!
//! Invariant: `Debug` of a secret contains nothing of it, and secrets are compared in constant time.

use data_encoding::{BASE64, HEXLOWER};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Letters and digits in the order of their bytes.
pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LOWER_CASE: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
/// The length of a random text of at least 256 bits.
pub(crate) const TOKEN_CHARS: usize = 43;
/// The length of a sealing key in bytes.
pub const SEALING_KEY_BYTES: usize = 32;

/// Defines a secret text: its memory is overwritten when it is dropped, and `Debug` shows only the type.
macro_rules! secret_text {
    ($(#[$doc:meta])* $vis:vis struct $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        $vis struct $name(::zeroize::Zeroizing<String>);

        impl $name {
            /// Wraps a text from a client or an operator. It is checked where it is used.
            #[must_use]
            $vis fn new(text: impl Into<String>) -> Self {
                Self(::zeroize::Zeroizing::new(text.into()))
            }

            /// The secret, for the response or cookie that carries it.
            #[must_use]
            $vis fn expose(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}
pub(crate) use secret_text;

/// A random text of this length from `alphabet`, each letter with the same probability.
pub(crate) fn random_text(alphabet: &[u8], length: usize) -> String {
    // Bytes above the last multiple of the alphabet's length would prefer its first letters.
    let limit = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let bytes: [u8; 64] = random_bytes();
        let fitting = bytes.iter().map(|byte| usize::from(*byte));
        let letters = fitting
            .filter(|byte| *byte < limit)
            .map(|byte| alphabet[byte % alphabet.len()]);
        text.extend(letters.take(length - text.len()).map(char::from));
    }
    text
}

/// Eight letters that name an API key.
pub(crate) fn random_letters() -> String {
    random_text(LOWER_CASE, 8)
}

/// A token of 256 random bits.
pub(crate) fn random_token() -> String {
    random_text(BASE62, TOKEN_CHARS)
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has a source of random bytes");
    bytes
}

/// The hash of a random secret at rest. SHA-256 without salt or stretching suffices: 80 random bits and more can't be
/// guessed, and each purpose has hashes of its own.
pub(crate) fn hash_at_rest(purpose: &str, secret: &str) -> String {
    let digest = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(secret)
        .finalize();
    HEXLOWER.encode(&digest)
}

/// Whether both texts are equal; the time does not depend on where they differ.
pub(crate) fn is_equal(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A value that was sealed with another key, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a sealed value can't be opened; restore the sealing key that was used before")]
pub struct NotSealed;

/// Keys for values that must be readable again, such as secrets of TOTP. The first one seals; the others open what was
/// sealed before a rotation.
#[derive(Clone)]
pub struct SealingKeys {
    keys: Vec<Prk>,
    names: hmac::Key,
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(…)")
    }
}

/// The key of a context, derived by HKDF (RFC 5869): the values of one context reveal nothing of another's key.
fn cipher(key: &Prk, context: &str) -> LessSafeKey {
    let info = [b"sealed ", context.as_bytes()];
    let derived = key.expand(&info, &CHACHA20_POLY1305);
    LessSafeKey::new(UnboundKey::from(
        derived.expect("the length is that of one key"),
    ))
}

impl SealingKeys {
    /// The present key, and earlier ones.
    #[must_use]
    pub fn new(present: &[u8; SEALING_KEY_BYTES], earlier: &[[u8; SEALING_KEY_BYTES]]) -> Self {
        let salt = Salt::new(HKDF_SHA256, b"accounts");
        let key = |bytes: &[u8; SEALING_KEY_BYTES]| salt.extract(bytes);
        let names = key(present);
        let names = names.expand(&[b"names of throttles"], hmac::HMAC_SHA256);
        Self {
            keys: std::iter::once(present).chain(earlier).map(key).collect(),
            names: names.expect("the length is that of one hash").into(),
        }
    }

    /// Encrypts and authenticates `plain`. It can be opened only for the same `context`, such as a user's id.
    pub(crate) fn seal(&self, context: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = plain.to_vec();
        cipher(&self.keys[0], context)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut sealed,
            )
            .expect("the value is far below the algorithm's limit");
        BASE64.encode(&[nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Self::seal`] returned.
    pub(crate) fn open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, NotSealed> {
        let bytes = BASE64.decode(sealed.as_bytes()).ok();
        let parts = bytes.as_deref().and_then(<[u8]>::split_first_chunk);
        let (nonce, sealed) = parts.ok_or(NotSealed)?;
        let opened = self.keys.iter().find_map(|key| {
            let mut buffer = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let aad = Aad::from(context.as_bytes());
            let plain = cipher(key, context)
                .open_in_place(nonce, aad, &mut buffer)
                .ok()?;
            Some(plain.to_vec())
        });
        opened.ok_or(NotSealed)
    }

    /// A stable pseudonym for personal data that must be found again but not read.
    pub(crate) fn pseudonym(&self, text: &str) -> String {
        HEXLOWER.encode(hmac::sign(&self.names, text.as_bytes()).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_open_only_in_their_context() {
        let (old, new) = (&[1; 32], &[2; 32]);
        let keys = SealingKeys::new(old, &[]);
        let sealed = keys.seal("usr_1", b"value");
        let rotated = SealingKeys::new(new, &[*old]);
        assert_eq!(rotated.open("usr_1", &sealed).expect("opened"), b"value");
        assert_ne!(keys.seal("usr_1", b"value"), sealed);
        let mut altered = sealed.clone().into_bytes();
        altered[20] ^= 1;
        let altered = String::from_utf8(altered).expect("ASCII");
        for (keys, context, sealed) in [
            (&keys, "usr_2", sealed.as_str()),
            (&keys, "usr_1", &altered),
            (&keys, "usr_1", &sealed[..12]),
            (&keys, "usr_1", ""),
            (&keys, "usr_1", "#"),
            (&SealingKeys::new(new, &[]), "usr_1", &sealed),
        ] {
            assert!(keys.open(context, sealed).is_err(), "{context} {sealed}");
        }
    }

    #[test]
    fn random_texts_use_all_letters_evenly() {
        let text = random_text(BASE62, 62 * 1_000);
        for letter in BASE62.iter().copied().map(char::from) {
            let count = text.matches(letter).count();
            // Five standard deviations.
            assert!((840..1_160).contains(&count), "{letter}: {count}");
        }
        assert_ne!(random_token(), random_token());
    }
}
