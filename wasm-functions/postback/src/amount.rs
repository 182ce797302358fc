//! Converts decimal amounts to minor units of ISO 4217, with the sender's notation and rounding.

use domain::Currency;
use functions_shared::{Reason, Refusal};
use serde::Deserialize;

/// Maximum length of an amount in characters: a binary fraction in full length is long.
const MAX_CHARS: usize = 64;
/// Maximum amount in minor units: more is an error in any currency.
const MAX_MINOR: i64 = 1_000_000_000_000;
/// Significant decimals. No currency has as many; further digits are artefacts of binary fractions.
const DECIMALS: usize = 6;

/// An advertiser's notation of amounts, and its rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Notation {
    /// `1.234,56` instead of `1234.56`.
    pub(crate) decimal_comma: bool,
    pub(crate) rounding: Rounding,
}

/// Rounding of fractions of a minor unit, such as in 0.4375 dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rounding {
    /// Half to even.
    #[default]
    RoundHalfEven,
    /// The report is rejected.
    Refuse,
}

/// An amount in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Negative if the text starts with a minus.
    pub(crate) minor: i64,
    /// Whether it was rounded.
    pub(crate) rounded: bool,
}

/// A decimal number: digits before and after the decimal mark.
struct Decimal<'a> {
    whole: String,
    part: &'a str,
}

/// A currency by its code in any case.
pub(crate) fn currency(code: &str) -> Result<Currency, Refusal> {
    let unknown = || Reason::UnknownCurrency.because("not a currency of ISO 4217");
    Currency::payable(code).ok_or_else(unknown)
}

/// Converts `text`, such as `19.99`, exactly to minor units of `currency`.
pub(crate) fn exact(text: &str, currency: Currency) -> Result<i64, Refusal> {
    match read(text, currency, Notation::default())? {
        Amount {
            minor: minor @ 0..,
            rounded: false,
        } => Ok(minor),
        _ => Err(bad("more decimals than the currency has, or a minus")),
    }
}

/// Converts `text` in this notation to minor units of `currency`.
pub(crate) fn read(text: &str, currency: Currency, notation: Notation) -> Result<Amount, Refusal> {
    if text.len() > MAX_CHARS {
        return Err(bad("too long"));
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let Decimal { whole, part } = match notation.decimal_comma {
        false => with_point(unsigned)?,
        true => with_comma(unsigned)?,
    };
    let (kept, dust) = part.split_at(part.len().min(DECIMALS));
    let millionths: i128 = format!("{whole}{kept:0<DECIMALS$}")
        .parse()
        .map_err(|_| bad("too large"))?;
    let millionths = millionths + i128::from(is_rounded_up(dust, millionths % 2 == 1));
    let minor = 10_i128.pow((DECIMALS as u32).saturating_sub(currency.digits()));
    let (units, rest) = (millionths / minor, millionths % minor);
    if rest != 0 && notation.rounding == Rounding::Refuse {
        return Err(bad("more decimals than the currency has"));
    }
    let up = rest * 2 > minor || rest * 2 == minor && units % 2 == 1;
    let units = i64::try_from(units + i128::from(up)).unwrap_or(i64::MAX);
    if units > MAX_MINOR {
        return Err(bad("too large"));
    }
    Ok(Amount {
        minor: if negative { -units } else { units },
        rounded: rest != 0 || dust.bytes().any(|digit| digit != b'0'),
    })
}

/// Whether the discarded digits round up; half to even.
fn is_rounded_up(dust: &str, last_is_odd: bool) -> bool {
    let mut digits = dust.bytes();
    match digits.next() {
        Some(b'6'..) => true,
        Some(b'5') => last_is_odd || digits.any(|digit| digit != b'0'),
        _ => false,
    }
}

fn with_point(text: &str) -> Result<Decimal<'_>, Refusal> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if !are_digits(whole) || !are_digits(part) || whole.len() + part.len() == 0 {
        let comma = if text.contains(',') {
            "a decimal number such as 19.99 is expected; decimal_comma reads 19,99"
        } else {
            "a decimal number such as 19.99 is expected"
        };
        return Err(bad(comma));
    }
    let whole = whole.to_owned();
    Ok(Decimal { whole, part })
}

/// `1.234,56`. A point is a decimal mark only if it can't be a thousands separator, as in `12.34`.
fn with_comma(text: &str) -> Result<Decimal<'_>, Refusal> {
    let expected = || bad("a decimal number such as 1.234,56 is expected");
    if let Some((whole, part)) = text.split_once(',') {
        let whole = match whole.contains('.') {
            true => grouped(whole).ok_or_else(expected)?,
            false => whole.to_owned(),
        };
        if !are_digits(&whole) || !are_digits(part) || whole.len() + part.len() == 0 {
            return Err(expected());
        }
        return Ok(Decimal { whole, part });
    }
    match (grouped(text), text.matches('.').count()) {
        (Some(_), 1) => Err(bad(
            "with decimal_comma this may be thousands or decimals; write 1.234,00 or 1,234",
        )),
        (Some(whole), _) => Ok(Decimal { whole, part: "" }),
        (None, _) => with_point(text).map_err(|_| expected()),
    }
}

/// The digits of `1.234.567`; `None` if the points do not separate groups of three.
fn grouped(text: &str) -> Option<String> {
    let mut groups = text.split('.');
    let first = groups.next()?;
    let mut others = groups.peekable();
    others.peek()?;
    let leads = (1..=3).contains(&first.len()) && !first.starts_with('0') && are_digits(first);
    let fits = leads && others.all(|group| group.len() == 3 && are_digits(group));
    fits.then(|| text.replace('.', ""))
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn bad(why: &'static str) -> Refusal {
    Reason::BadAmount.because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Notation = Notation {
        decimal_comma: false,
        rounding: Rounding::RoundHalfEven,
    };
    const COMMA: Notation = Notation {
        decimal_comma: true,
        ..POINT
    };

    fn of(text: &str, code: &str, notation: Notation) -> Option<(i64, bool)> {
        let amount = read(text, currency(code).expect("currency"), notation).ok();
        amount.map(|it| (it.minor, it.rounded))
    }

    #[test]
    fn exact_amounts_keep_their_value() {
        for (text, code, minor) in [
            ("19.99", "USD", 1_999),
            ("19.9", "usd", 1_990),
            ("19", "EUR", 1_900),
            (".5", "EUR", 50),
            ("5.", "EUR", 500),
            ("19.9900", "USD", 1_999),
            ("19.990000000000000", "USD", 1_999),
            ("1500", "JPY", 1_500),
            ("1500.00", "JPY", 1_500),
            ("1.234", "KWD", 1_234),
            ("0", "USD", 0),
            ("-49.99", "USD", -4_999),
            ("10000000000.00", "USD", MAX_MINOR),
        ] {
            assert_eq!(of(text, code, POINT), Some((minor, false)), "{text}");
        }
    }

    #[test]
    fn fractions_are_rounded_by_the_rule() {
        for (text, code, minor, refused) in [
            // Artefacts of binary fractions.
            ("457.31999999999999", "USD", 45_732, false),
            ("19.990000000000002", "USD", 1_999, false),
            ("0.30000000000000004", "USD", 30, false),
            ("12.3400005", "USD", 1_234, false),
            // Real fractions.
            ("0.4375", "USD", 44, true),
            ("0.435", "USD", 44, true),
            ("0.445", "USD", 44, true),
            ("0.4450001", "USD", 44, true),
            ("0.445001", "USD", 45, true),
            ("-0.435", "USD", -44, true),
            ("5.5", "JPY", 6, true),
            ("4.5", "JPY", 4, true),
            ("1.999", "USD", 200, true),
        ] {
            assert_eq!(of(text, code, POINT), Some((minor, true)), "{text}");
            let strict = Notation {
                rounding: Rounding::Refuse,
                ..POINT
            };
            assert_eq!(of(text, code, strict).is_none(), refused, "{text}");
        }
    }

    #[test]
    fn decimal_commas_need_a_setting() {
        for (text, minor) in [
            ("12,34", Some(1_234)),
            ("1.234,56", Some(123_456)),
            ("1.234.567,8", Some(123_456_780)),
            ("1.234.567", Some(123_456_700)),
            ("-1.234,56", Some(-123_456)),
            ("20", Some(2_000)),
            // Points that can't be thousands separators.
            ("12.34", Some(1_234)),
            ("12.3", Some(1_230)),
            ("0.500", Some(50)),
            ("1234.500", Some(123_450)),
            ("19.990000000000002", Some(1_999)),
            // A point that can.
            ("1.234", None),
            ("1,234.56", None),
            ("1.23,45", None),
            ("12,34,56", None),
            ("1,2.345", None),
            (",", None),
            ("", None),
        ] {
            let read = of(text, "USD", COMMA).map(|it| it.0);
            assert_eq!(read, minor, "{text}");
        }
        for text in ["12,34", "1.234,56", "1,234.56"] {
            assert_eq!(of(text, "USD", POINT), None, "{text}");
        }
    }

    #[test]
    fn invalid_amounts_are_rejected() {
        for wrong in [
            "",
            ".",
            "-",
            "--1",
            "+1",
            "1e3",
            "0x10",
            " 1",
            "1.2.3",
            "10000000000.01",
            "92233720368547758.08",
            &"9".repeat(64),
            &"1".repeat(65),
        ] {
            assert_eq!(of(wrong, "USD", POINT), None, "{wrong:?}");
            assert_eq!(of(wrong, "USD", COMMA), None, "{wrong:?}");
        }
        for unknown in ["", "US", "XXQ", "XAU", "dollars"] {
            assert!(currency(unknown).is_err(), "{unknown}");
        }
    }
}
