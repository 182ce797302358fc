//! Amounts as people write them.

use crate::currency::digits;

/// Writes an amount of the currency's smallest units as a decimal number: 1999 and `USD` are `19.99`.
pub(super) fn decimal(minor: i64, currency: &str) -> String {
    let digits = usize::from(digits(currency));
    let sign = if minor < 0 { "-" } else { "" };
    let whole = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (units, fraction) = whole.split_at(whole.len() - digits);
    let point = if digits == 0 { "" } else { "." };
    format!("{sign}{units}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_as_many_decimals_as_their_currency() {
        assert_eq!(decimal(1999, "USD"), "19.99");
        assert_eq!(decimal(5, "EUR"), "0.05");
        assert_eq!(decimal(0, "EUR"), "0.00");
        assert_eq!(decimal(-120, "EUR"), "-1.20");
        assert_eq!(decimal(1999, "JPY"), "1999");
        assert_eq!(decimal(1999, "KWD"), "1.999");
        assert_eq!(decimal(i64::MIN, "USD"), "-92233720368547758.08");
    }
}
