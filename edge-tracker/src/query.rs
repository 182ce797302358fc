//! The query of a link or pixel: known parameters decoded, the rest kept to be passed on.
//!
//! A broken percent-escape is taken literally and marked, since affiliates write `sub1=100%` and
//! their visitors must not see an error for it; control characters are refused.

use crate::refusal::Refusal;
use std::borrow::Cow;
use std::ops::Range;
use tracking_events::{CostMicros, SUB_COUNT};

/// What may be asked in one query.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Parameters, known or not.
    pub parameters: usize,
    /// Bytes of a decoded value.
    pub value_bytes: usize,
}

/// One query, decoded; reused from request to request so that nothing is allocated for one.
#[derive(Debug, Default)]
pub struct Query {
    text: String,
    scratch: Vec<u8>,
    named: [Span; NAMED],
    rest: Vec<(Span, Span)>,
    malformed: bool,
}

type Span = (u32, u32);

/// How many parameters have a meaning: the subs and four more.
const NAMED: usize = SUB_COUNT + 4;
const SOURCE: usize = SUB_COUNT;
const EXTERNAL_ID: usize = SUB_COUNT + 1;
const COST: usize = SUB_COUNT + 2;
const REFERRER: usize = SUB_COUNT + 3;

impl Query {
    /// Reads `raw`, the part of a request target after `?`. The first of equal names counts.
    ///
    /// # Errors
    /// When a limit is passed or a control character is found.
    pub fn read(&mut self, raw: &str, limits: Limits) -> Result<(), Refusal> {
        self.text.clear();
        self.rest.clear();
        self.named = [(0, 0); NAMED];
        self.malformed = false;
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        for (number, pair) in pairs.enumerate() {
            if number == limits.parameters {
                return Err(Refusal::TooManyParameters);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = self.decode(name, limits)?;
            let value = self.decode(value, limits)?;
            match named(self.slice(name)) {
                Some(known) if self.named[known] == (0, 0) => self.named[known] = value,
                Some(_) => {}
                None => self.rest.push((name, value)),
            }
        }
        Ok(())
    }

    fn decode(&mut self, raw: &str, limits: Limits) -> Result<Span, Refusal> {
        // Most are as they are.
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'+';
        if raw.len() <= limits.value_bytes && raw.bytes().all(plain) {
            let start = self.text.len();
            self.text.push_str(raw);
            return Ok((small(start), small(self.text.len())));
        }
        self.scratch.clear();
        let mut bytes = raw.as_bytes();
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            let escaped = if *byte == b'%' { escaped(rest) } else { None };
            self.scratch.push(match (byte, escaped) {
                (b'+', _) => b' ',
                (b'%', Some(value)) => {
                    bytes = &rest[2..];
                    value
                }
                (b'%', None) => {
                    self.malformed = true;
                    b'%'
                }
                (other, _) => *other,
            });
        }
        let lossy = match std::str::from_utf8(&self.scratch) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                self.malformed = true;
                String::from_utf8_lossy(&self.scratch)
            }
        };
        // A byte that is not UTF-8 becomes three.
        if lossy.len() > limits.value_bytes {
            return Err(Refusal::ParameterTooLong);
        }
        if self.scratch.iter().any(u8::is_ascii_control) {
            return Err(Refusal::ControlCharacter);
        }
        let start = self.text.len();
        self.text.push_str(&lossy);
        Ok((small(start), small(self.text.len())))
    }

    fn slice(&self, span: Span) -> &str {
        &self.text[range(span)]
    }

    /// `sub1` to `sub10`.
    #[must_use]
    pub fn subs(&self) -> [&str; SUB_COUNT] {
        std::array::from_fn(|number| self.slice(self.named[number]))
    }

    /// The traffic source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.slice(self.named[SOURCE])
    }

    /// The affiliate's own id.
    #[must_use]
    pub fn external_id(&self) -> &str {
        self.slice(self.named[EXTERNAL_ID])
    }

    /// The `referrer` parameter.
    #[must_use]
    pub fn referrer(&self) -> &str {
        self.slice(self.named[REFERRER])
    }

    /// The cost: none given is 0, and `None` means that what was given is not a cost.
    #[must_use]
    pub fn cost(&self) -> Option<CostMicros> {
        match self.slice(self.named[COST]) {
            "" => Some(CostMicros(0)),
            text => decimal_micros(text).map(CostMicros),
        }
    }

    /// Parameters that mean nothing to us, in their order.
    pub fn rest(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rest
            .iter()
            .map(|(name, value)| (self.slice(*name), self.slice(*value)))
    }

    /// Whether an escape was broken or something was not UTF-8.
    #[must_use]
    pub const fn malformed(&self) -> bool {
        self.malformed
    }
}

/// Which parameter has this name, if it means something.
fn named(name: &str) -> Option<usize> {
    Some(match name {
        "sub1" => 0,
        "sub2" => 1,
        "sub3" => 2,
        "sub4" => 3,
        "sub5" => 4,
        "sub6" => 5,
        "sub7" => 6,
        "sub8" => 7,
        "sub9" => 8,
        "sub10" => 9,
        "source" => SOURCE,
        "external_id" => EXTERNAL_ID,
        "cost" => COST,
        "referrer" => REFERRER,
        _ => return None,
    })
}

/// The byte that two hexadecimal digits at the start of `bytes` stand for.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// A request target fits into 64 KiB and decoding triples it at most, so 32 bits suffice.
fn small(position: usize) -> u32 {
    u32::try_from(position).expect("a query is far shorter than 4 GiB")
}

const fn range((start, end): Span) -> Range<usize> {
    start as usize..end as usize
}

/// A decimal of at most 12 digits before and 6 after the point, in millionths.
fn decimal_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 12
        || fraction.len() > 6
        || !digits(whole)
        || !digits(fraction)
    {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let millionths = (0..6).fold(0, |sum, place| {
        let digit = fraction.as_bytes().get(place).map_or(0, |byte| byte - b'0');
        sum * 10 + i64::from(digit)
    });
    Some(whole * 1_000_000 + millionths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        parameters: 64,
        value_bytes: 512,
    };

    fn read(raw: &str) -> Result<Query, Refusal> {
        let mut query = Query::default();
        query.read(raw, LIMITS).map(|()| query)
    }

    #[test]
    fn known_parameters_are_decoded_and_the_rest_kept() {
        let query = read("sub1=a+b%20c&x=%C3%BC&sub10=z&source=mail&external_id=7&y&sub1=late")
            .expect("fine");
        let subs = query.subs();
        assert_eq!((subs[0], subs[1], subs[9]), ("a b c", "", "z"));
        assert_eq!(
            (query.source(), query.external_id(), query.referrer()),
            ("mail", "7", "")
        );
        assert_eq!(query.rest().collect::<Vec<_>>(), [("x", "ü"), ("y", "")]);
        assert!(!query.malformed());
    }

    #[test]
    fn broken_escapes_are_literal_and_marked() {
        for (raw, sub1) in [
            ("sub1=100%", "100%"),
            ("sub1=%zz", "%zz"),
            ("sub1=%4", "%4"),
            ("sub1=%ff", "\u{fffd}"),
        ] {
            let query = read(raw).expect(raw);
            assert_eq!((query.subs()[0], query.malformed()), (sub1, true), "{raw}");
        }
    }

    #[test]
    fn limits_and_control_characters_are_refused() {
        let many = "a=1&".repeat(65);
        assert_eq!(read(&many).err(), Some(Refusal::TooManyParameters));
        assert!(read(&"a=1&".repeat(64)).is_ok());
        assert_eq!(
            read(&format!("sub1={}", "x".repeat(513))).err(),
            Some(Refusal::ParameterTooLong)
        );
        assert!(read(&format!("sub1={}", "x".repeat(512))).is_ok());
        let not_utf8 = |bytes: usize| read(&format!("sub1={}", "%ff".repeat(bytes))).err();
        assert_eq!(not_utf8(170), None);
        assert_eq!(not_utf8(171), Some(Refusal::ParameterTooLong));
        for raw in [
            "sub1=%00",
            "sub2=a%0d%0aSet-Cookie:x=y",
            "other=%7f",
            "%0a=1",
        ] {
            assert_eq!(read(raw).err(), Some(Refusal::ControlCharacter), "{raw}");
        }
    }

    #[test]
    fn costs_are_exact_decimals() {
        let cost = |text: &str| {
            read(&format!("cost={text}"))
                .expect("fine")
                .cost()
                .map(|cost| cost.0)
        };
        assert_eq!(cost("0.25"), Some(250_000));
        assert_eq!(cost("12"), Some(12_000_000));
        assert_eq!(cost("999999999999.999999"), Some(999_999_999_999_999_999));
        assert_eq!(cost(""), Some(0));
        for wrong in [
            "-1",
            "1e3",
            ".5",
            "1.0000001",
            "1,5",
            "NaN",
            "9999999999999",
            "1.-5",
        ] {
            assert_eq!(cost(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn values_survive_encoding(values in proptest::array::uniform2("[^\\x00-\\x1f\\x7f]{0,40}")) {
            let encoded = values.each_ref().map(|value| {
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
            });
            let query = read(&format!("sub3={}&source={}", encoded[0], encoded[1])).expect("fine");
            prop_assert_eq!(query.subs()[2], &values[0]);
            prop_assert_eq!(query.source(), &values[1]);
        }

        #[test]
        fn no_query_makes_it_panic(raw in "[ -~]{0,200}") {
            if let Ok(query) = read(&raw) {
                let _ = (query.subs(), query.cost(), query.rest().count());
            }
        }
    }
}
