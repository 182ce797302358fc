//! Currencies of ISO 4217, and how many digits their amounts have.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The digits of most currencies, and of one that is not known.
const CENTS: u32 = 2;

/// The code of a currency: three capitals of ISO 4217.
///
/// Events of every released version hold these three bytes as they came, so a value may be no currency. Where one is
/// chosen by people, [`Currency::payable`] accepts none but those of ISO 4217.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(pub [u8; 3]);

impl Currency {
    /// The currency with this code in any case; `None` if ISO 4217 has none, or its amounts have no minor unit, such as
    /// gold (XAU): these are not paid out.
    #[must_use]
    pub fn payable(code: &str) -> Option<Self> {
        let currency = Self(code.to_ascii_uppercase().as_bytes().try_into().ok()?);
        currency.known_digits().map(|_| currency)
    }

    /// The currency whose code was stored; without letters if that is not three bytes.
    #[must_use]
    pub fn from_stored(code: &str) -> Self {
        Self(code.as_bytes().try_into().unwrap_or_default())
    }

    /// The code as text; empty when it is not three capital letters.
    #[must_use]
    pub fn code(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok(code) if self.0.iter().all(u8::is_ascii_uppercase) => code,
            _ => "",
        }
    }

    /// Digits after the point in amounts: 2 for USD, 0 for JPY, 3 for KWD, and 2 for a currency that is not known.
    #[must_use]
    pub fn digits(self) -> u32 {
        self.known_digits().unwrap_or(CENTS)
    }

    fn known_digits(self) -> Option<u32> {
        let known = iso_currency::Currency::from_code(self.code())?;
        known.exponent().map(u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Currency({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_currencies_with_minor_units_are_payable() {
        for (code, digits) in [("USD", 2), ("eur", 2), ("JPY", 0), ("KWD", 3), ("Clf", 4)] {
            let currency = Currency::payable(code).expect(code);
            assert_eq!(currency.code(), code.to_ascii_uppercase());
            assert_eq!(currency.digits(), digits, "{code}");
        }
        for code in ["", "US", "XXQ", "XAU", "dollars", "€"] {
            assert_eq!(Currency::payable(code), None, "{code:?}");
        }
    }

    #[test]
    fn unknown_bytes_have_no_code_and_two_digits() {
        for bytes in [*b"\0\0\0", *b"eur", *b"E R", *b"\xff\xff\xff", *b"XXQ"] {
            let currency = Currency(bytes);
            assert!(currency.code().is_empty() || bytes == *b"XXQ");
            assert_eq!(currency.digits(), 2);
        }
        assert_eq!(Currency::from_stored("EUR"), Currency(*b"EUR"));
        assert_eq!(Currency::from_stored("EURO"), Currency::default());
    }
}
