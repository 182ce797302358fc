//! The query of a link or pixel: own parameters are decoded, others are passed on as sent.
//!
//! Visitors did not write their query, so nothing in it is a reason for refusal: malformed parts are decoded as far
//! as possible, and the visit is marked.

use domain::CostMicros;
use std::ops::Range;
use tracking_events::SUB_COUNT;

/// The longest `Referer` or `referrer` parameter kept.
pub const MAX_REFERRER_BYTES: usize = 1_024;

/// `text` truncated to at most `max` bytes at a character boundary, and whether that removed anything.
#[must_use]
pub fn truncate(text: &str, max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(max);
    (&text[..end], end < text.len())
}

/// A decoded query; requests reuse it so that none allocates.
#[derive(Debug, Default)]
pub struct Query {
    text: String,
    named: [Option<Span>; OWN_PARAMETERS],
    /// The values that are not UTF-8, as sent.
    not_utf8: Vec<(usize, Vec<u8>)>,
    scratch: Vec<u8>,
    malformed: bool,
    truncated: bool,
}

type Span = (u32, u32);

/// The number of own parameters: the subs and four more.
const OWN_PARAMETERS: usize = SUB_COUNT + 4;
const SOURCE_INDEX: usize = SUB_COUNT;
const EXTERNAL_ID_INDEX: usize = SUB_COUNT + 1;
const COST_INDEX: usize = SUB_COUNT + 2;
const REFERRER_INDEX: usize = SUB_COUNT + 3;
/// The bytes of `external_id`.
const LONGEST_NAME_BYTES: usize = 11;

impl Query {
    /// Decodes `raw`, the part of a request target after `?`. Keeps `value_bytes` of each own parameter, and
    /// [`MAX_REFERRER_BYTES`] of the referrer. The first of equal names counts.
    pub fn read(&mut self, raw: &str, value_bytes: usize) {
        self.text.clear();
        self.named = [None; OWN_PARAMETERS];
        self.not_utf8.clear();
        (self.malformed, self.truncated) = (false, false);
        for sent in raw.split('&') {
            let parameter = without_entity(sent);
            self.malformed |= parameter.len() < sent.len();
            let (name, value) = split_name_value(parameter);
            match own_parameter(name) {
                Some(known) if self.named[known].is_none() => {
                    let max = match known {
                        REFERRER_INDEX => MAX_REFERRER_BYTES,
                        _ => value_bytes,
                    };
                    self.named[known] = Some(self.decode(known, value, max));
                }
                Some(_) => {}
                None => self.check_foreign(parameter),
            }
        }
    }

    fn decode(&mut self, known: usize, raw: &str, max: usize) -> Span {
        let start = self.text.len();
        if raw.len() <= max && is_plain(raw) {
            self.text.push_str(raw);
        } else {
            self.unescape(raw);
            self.scratch.retain(|byte| !byte.is_ascii_control());
            match std::str::from_utf8(&self.scratch) {
                Ok(text) => {
                    let (text, cut) = truncate(text, max);
                    self.text.push_str(text);
                    self.truncated |= cut;
                }
                Err(_) => self.decode_windows_1252(known, max),
            }
        }
        (as_u32(start), as_u32(self.text.len()))
    }

    /// Decodes the unescaped value as Windows-1252, and also keeps its bytes as sent.
    fn decode_windows_1252(&mut self, known: usize, max: usize) {
        let start = self.text.len();
        for character in self.scratch.iter().copied().map(windows_1252) {
            if self.text.len() - start + character.len_utf8() > max {
                self.truncated = true;
                break;
            }
            self.text.push(character);
        }
        let kept = self.scratch.len().min(max);
        self.truncated |= kept < self.scratch.len();
        self.not_utf8.push((known, self.scratch[..kept].into()));
    }

    /// Marks the query when a foreign parameter is malformed.
    fn check_foreign(&mut self, parameter: &str) {
        if !is_plain(parameter) {
            self.unescape(parameter);
            self.malformed |= std::str::from_utf8(&self.scratch).is_err();
        }
    }

    /// Unescapes `raw` into the scratch buffer, and marks the query when the value is malformed.
    fn unescape(&mut self, raw: &str) {
        self.scratch.clear();
        self.scratch.extend(unescaped(raw));
        self.malformed |= has_broken_escape(raw)
            || self.scratch.iter().any(u8::is_ascii_control)
            || std::str::from_utf8(&self.scratch).is_err();
    }

    fn text(&self, known: usize) -> &str {
        self.named[known].map_or("", |span| &self.text[range(span)])
    }

    fn octets(&self, known: usize) -> &[u8] {
        let octets = self.not_utf8.iter().find(|(number, _)| *number == known);
        octets.map_or_else(|| self.text(known).as_bytes(), |(_, octets)| octets)
    }

    /// `sub1` to `sub10`.
    #[must_use]
    pub fn subs(&self) -> [&str; SUB_COUNT] {
        std::array::from_fn(|number| self.text(number))
    }

    /// The traffic source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.text(SOURCE_INDEX)
    }

    /// The affiliate's own id.
    #[must_use]
    pub fn external_id(&self) -> &str {
        self.text(EXTERNAL_ID_INDEX)
    }

    /// The `referrer` parameter.
    #[must_use]
    pub fn referrer(&self) -> &str {
        self.text(REFERRER_INDEX)
    }

    /// `sub1` to `sub10` in their original encoding.
    #[must_use]
    pub fn sub_octets(&self) -> [&[u8]; SUB_COUNT] {
        std::array::from_fn(|number| self.octets(number))
    }

    /// The traffic source in its original encoding.
    #[must_use]
    pub fn source_octets(&self) -> &[u8] {
        self.octets(SOURCE_INDEX)
    }

    /// The affiliate's own id in its original encoding.
    #[must_use]
    pub fn external_id_octets(&self) -> &[u8] {
        self.octets(EXTERNAL_ID_INDEX)
    }

    /// The cost: an absent one is 0, and `None` means that the value is not a cost.
    #[must_use]
    pub fn cost(&self) -> Option<CostMicros> {
        match self.text(COST_INDEX) {
            "" => Some(CostMicros(0)),
            text => decimal_micros(text).map(CostMicros),
        }
    }

    /// Whether a part was malformed; long values are [`truncated`](Self::truncated) instead.
    #[must_use]
    pub const fn malformed(&self) -> bool {
        self.malformed
    }

    /// Whether an own parameter was longer than its limit.
    #[must_use]
    pub const fn truncated(&self) -> bool {
        self.truncated
    }
}

/// The foreign parameters in `raw`, as sent and in their order.
pub fn passed_on(raw: &str) -> impl Iterator<Item = &str> {
    raw.split('&').map(without_entity).filter(|parameter| {
        !parameter.is_empty() && own_parameter(split_name_value(parameter).0).is_none()
    })
}

/// A parameter without the remainder of `&amp;`, with which links are copied out of HTML.
fn without_entity(parameter: &str) -> &str {
    parameter.trim_start_matches("amp;")
}

fn split_name_value(parameter: &str) -> (&str, &str) {
    parameter.split_once('=').unwrap_or((parameter, ""))
}

/// Whether `raw` needs no decoding, as is true of most values.
fn is_plain(raw: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'+';
    raw.bytes().all(plain)
}

/// The own parameter with this name, as sent.
fn own_parameter(name: &str) -> Option<usize> {
    if !name.contains('%') {
        return parameter_named(name);
    }
    let mut room = [0; LONGEST_NAME_BYTES];
    let mut length = 0;
    for byte in unescaped(name) {
        *room.get_mut(length)? = byte;
        length += 1;
    }
    parameter_named(std::str::from_utf8(&room[..length]).ok()?)
}

/// The own parameter with this decoded name.
fn parameter_named(name: &str) -> Option<usize> {
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
        "source" => SOURCE_INDEX,
        "external_id" => EXTERNAL_ID_INDEX,
        "cost" => COST_INDEX,
        "referrer" => REFERRER_INDEX,
        _ => return None,
    })
}

/// The unescaped bytes of `raw`; a broken escape is kept as it is.
fn unescaped(raw: &str) -> impl Iterator<Item = u8> {
    let mut bytes = raw.as_bytes();
    std::iter::from_fn(move || {
        let (first, rest) = bytes.split_first()?;
        let escaped = if *first == b'%' { escaped(rest) } else { None };
        bytes = if escaped.is_some() { &rest[2..] } else { rest };
        Some(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }))
    })
}

fn has_broken_escape(raw: &str) -> bool {
    let mut percents = raw.bytes().enumerate().filter(|(_, byte)| *byte == b'%');
    percents.any(|(at, _)| escaped(&raw.as_bytes()[at + 1..]).is_none())
}

/// The character of a byte in Windows-1252, or the replacement character for the five undefined bytes.
fn windows_1252(byte: u8) -> char {
    const FROM_80_TO_9F: [char; 32] = [
        '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž',
        '\u{fffd}', '\u{fffd}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ',
        '\u{fffd}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => FROM_80_TO_9F[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

/// The byte of the two hexadecimal digits at the start of `bytes`.
pub(crate) fn escaped(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// A request target fits into 64 KiB and decoding triples it at most, so that 32 bits suffice.
fn as_u32(position: usize) -> u32 {
    u32::try_from(position).expect("a decoded query is shorter than 4 GiB")
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

    const VALUE_BYTES: usize = 512;

    fn read(raw: &str) -> Query {
        let mut query = Query::default();
        query.read(raw, VALUE_BYTES);
        query
    }

    #[test]
    fn own_parameters_are_decoded() {
        let query = read("sub1=a+b%20c&x=%C3%BC&sub10=z&source=mail&%65xternal_id=7&y&sub1=late");
        let subs = query.subs();
        assert_eq!((subs[0], subs[1], subs[9]), ("a b c", "", "z"));
        assert_eq!(
            (query.source(), query.external_id(), query.referrer()),
            ("mail", "7", "")
        );
        assert!(!query.malformed() && !query.truncated());
        assert_eq!(read("sub1=&sub1=late").subs()[0], "");
    }

    #[test]
    fn foreign_parameters_are_passed_on_as_sent() {
        for (raw, expected) in [
            ("x=%c3%BC&sub1=a&y&sub1=b&z=", &["x=%c3%BC", "y", "z="][..]),
            ("_inputs_&n=200&&", &["_inputs_", "n=200"]),
            ("s%75b1=a&sub11=b&SUB1=c", &["sub11=b", "SUB1=c"]),
            ("city=H%E4me&a=100%", &["city=H%E4me", "a=100%"]),
            ("a=1&amp;b=2&amp;amp;sub1=c", &["a=1", "b=2"]),
            ("", &[]),
        ] {
            assert_eq!(passed_on(raw).collect::<Vec<_>>(), expected, "{raw}");
        }
    }

    #[test]
    fn malformed_values_are_decoded_and_marked() {
        for (raw, sub1, octets) in [
            ("sub1=100%", "100%", &b"100%"[..]),
            ("sub1=%zz", "%zz", b"%zz"),
            ("sub1=%4", "%4", b"%4"),
            ("sub1=%ff", "ÿ", b"\xff"),
            ("sub1=%CF%F0%E8", "Ïðè", b"\xcf\xf0\xe8"),
            ("sub1=%80%81+%9F%C3", "€\u{fffd} ŸÃ", b"\x80\x81 \x9f\xc3"),
            ("sub1=hello%0D%0A", "hello", b"hello"),
            ("sub1=%00%7fa%1B", "a", b"a"),
            ("sub2=x&amp;sub1=hello", "hello", b"hello"),
            ("sub1=a&x=%0A", "a", b"a"),
            ("sub1=a&%0A", "a", b"a"),
            ("sub1=a&x=%ff", "a", b"a"),
        ] {
            let query = read(raw);
            assert_eq!((query.subs()[0], query.malformed()), (sub1, true), "{raw}");
            assert_eq!(query.sub_octets()[0], octets, "{raw}");
            assert!(!query.truncated(), "{raw}");
        }
    }

    #[test]
    fn long_own_values_are_truncated_and_marked() {
        let long = |name: &str, value: &str, times: usize| {
            let query = read(&format!("{name}={}", value.repeat(times)));
            let text = [query.subs()[0], query.referrer()].concat();
            (text.len(), query.truncated())
        };
        assert_eq!(long("sub1", "x", 512), (512, false));
        assert_eq!(long("sub1", "x", 513), (512, true));
        assert_eq!(long("sub1", "%41", 512), (512, false));
        assert_eq!(long("sub1", "€", 171), (510, true));
        assert_eq!(long("sub1", "%80", 171), (510, true));
        assert_eq!(long("sub1", "%80", 170), (510, false));
        assert_eq!(long("referrer", "x", 1_024), (1_024, false));
        assert_eq!(long("referrer", "x", 1_025), (1_024, true));
        assert_eq!(long("fbclid", "x", 2_000), (0, false));
        let query = read(&format!("sub1={}", "%E4".repeat(600)));
        assert_eq!(query.sub_octets()[0], [0xe4; 512]);
    }

    #[test]
    fn costs_are_exact_decimals() {
        let cost = |text: &str| read(&format!("cost={text}")).cost().map(|cost| cost.0);
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
            let query = read(&format!("sub3={}&source={}", encoded[0], encoded[1]));
            prop_assert_eq!(query.subs()[2], &values[0]);
            prop_assert_eq!(query.source(), &values[1]);
        }

        #[test]
        fn arbitrary_query_does_not_panic(raw in "[ -~ü]{0,200}") {
            let query = read(&raw);
            let _ = (query.subs(), query.sub_octets(), query.cost(), passed_on(&raw).count());
        }
    }
}
