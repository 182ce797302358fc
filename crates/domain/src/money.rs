//! Amounts of money: whole minor units and a currency, never floating point.

use crate::Currency;
use crate::ids::number;
use serde::{Deserialize, Serialize};

/// An amount in the smallest unit of its currency: 1999 and `USD` are 19.99 US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// The amount in minor units of ISO 4217: cents, or yen.
    pub minor: i64,
    /// The currency.
    pub currency: Currency,
}

number! {
    /// The cost of a visit as sent by the affiliate, in millionths of the campaign's currency.
    CostMicros(i64)
}

impl Money {
    /// The amount as a decimal number without the currency: 1999 and `USD` are `19.99`.
    #[must_use]
    pub fn decimal(&self) -> String {
        let digits = self.currency.digits() as usize;
        let sign = if self.minor < 0 { "-" } else { "" };
        let all = format!("{:0>width$}", self.minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = all.split_at(all.len() - digits);
        let point = if digits == 0 { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}")
    }

    /// The same decimal number in another currency, not its value: 12.00 euros become 12 yen. `None` if the other
    /// currency has too few digits, or the number is out of range.
    #[must_use]
    pub fn relabelled(&self, currency: Currency) -> Option<Self> {
        let (from, to) = (self.currency.digits(), currency.digits());
        let factor = 10_i64.checked_pow(from.abs_diff(to))?;
        let minor = if to >= from {
            self.minor.checked_mul(factor)?
        } else if self.minor % factor == 0 {
            self.minor / factor
        } else {
            return None;
        };
        Some(Self { minor, currency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(minor: i64, code: &[u8; 3]) -> Money {
        Money {
            minor,
            currency: Currency(*code),
        }
    }

    #[test]
    fn amounts_have_as_many_decimals_as_their_currency() {
        for (minor, code, decimal) in [
            (1999, b"USD", "19.99"),
            (5, b"EUR", "0.05"),
            (0, b"EUR", "0.00"),
            (-120, b"EUR", "-1.20"),
            (1999, b"JPY", "1999"),
            (1999, b"KWD", "1.999"),
            (i64::MIN, b"USD", "-92233720368547758.08"),
        ] {
            assert_eq!(money(minor, code).decimal(), decimal);
        }
    }

    #[test]
    fn relabelled_amounts_keep_their_decimal_number() {
        for (minor, from, to, expected) in [
            (1200, b"EUR", b"USD", Some(1200)),
            (1200, b"EUR", b"JPY", Some(12)),
            (1250, b"EUR", b"JPY", None),
            (12, b"JPY", b"KWD", Some(12_000)),
            (i64::MAX, b"JPY", b"KWD", None),
        ] {
            let expected = expected.map(|minor| money(minor, to));
            assert_eq!(money(minor, from).relabelled(Currency(*to)), expected);
        }
    }
}
