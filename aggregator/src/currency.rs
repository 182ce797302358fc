//! Currencies, as far as amounts need them.

use iso_currency::Currency;

/// Most currencies have cents, and one that is not known is taken for one of them.
const CENTS: u16 = 2;

/// Digits after the point in amounts of the currency with this code of ISO 4217.
pub(crate) fn digits(code: &str) -> u16 {
    let currency = Currency::from_code(code);
    currency.and_then(|it| it.exponent()).unwrap_or(CENTS)
}
