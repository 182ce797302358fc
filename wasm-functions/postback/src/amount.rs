//! Amounts: decimal texts to minor units of ISO 4217, exactly or not at all.

use functions_shared::{Reason, Refusal};
use iso_currency::Currency;

/// The longest amount, in characters.
const MAX_CHARS: usize = 24;
/// The largest amount, in minor units: more is a mistake, whatever the currency.
const MAX_MINOR: i64 = 1_000_000_000_000;

/// A currency by its letters, in either case.
pub(crate) fn currency(code: &str) -> Result<Currency, Refusal> {
    let unknown = || Reason::UnknownCurrency.because("not a currency of ISO 4217");
    let currency = Currency::from_code(&code.to_ascii_uppercase()).ok_or_else(unknown)?;
    // Those without minor units, such as gold (XAU), are not paid out in.
    if currency.exponent().is_none() {
        return Err(unknown());
    }
    Ok(currency)
}

/// `text`, such as `19.99`, in minor units of `currency`.
pub(crate) fn minor(text: &str, currency: Currency) -> Result<i64, Refusal> {
    let bad = |why: &str| Reason::BadAmount.because(why.to_owned());
    let places = usize::from(currency.exponent().unwrap_or(0));
    if text.len() > MAX_CHARS {
        return Err(bad("too long"));
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return Err(bad("a decimal number such as 19.99 is expected"));
    }
    let (kept, rest) = part.split_at(part.len().min(places));
    if rest.bytes().any(|byte| byte != b'0') {
        return Err(bad("more decimals than the currency has"));
    }
    let text = format!("{whole}{kept:0<places$}");
    let text = if text.is_empty() { "0" } else { &text };
    let minor: i64 = text.parse().map_err(|_| bad("too large"))?;
    if minor > MAX_MINOR {
        return Err(bad("too large"));
    }
    Ok(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        let of = |text, code| minor(text, currency(code).expect("a currency")).ok();
        assert_eq!(of("19.99", "USD"), Some(1_999));
        assert_eq!(of("19.9", "usd"), Some(1_990));
        assert_eq!(of("19", "EUR"), Some(1_900));
        assert_eq!(of(".5", "EUR"), Some(50));
        assert_eq!(of("5.", "EUR"), Some(500));
        assert_eq!(of("19.9900", "USD"), Some(1_999));
        assert_eq!(of("1500", "JPY"), Some(1_500));
        assert_eq!(of("1500.00", "JPY"), Some(1_500));
        assert_eq!(of("1.234", "KWD"), Some(1_234));
        assert_eq!(of("0", "USD"), Some(0));
        assert_eq!(of("10000000000.00", "USD"), Some(MAX_MINOR));
        for wrong in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "1,50",
            "1.999",
            "0x10",
            " 1",
            "10000000000.01",
            "92233720368547758.08",
        ] {
            assert_eq!(of(wrong, "USD"), None, "{wrong:?}");
        }
        assert_eq!(of("1500.5", "JPY"), None);
        for unknown in ["", "US", "XXQ", "XAU", "dollars"] {
            assert!(currency(unknown).is_err(), "{unknown}");
        }
    }
}
