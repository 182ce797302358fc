//! Checks of single values, and their canonical forms.

use crate::countries::is_country;
use crate::error::Reason;
use crate::kind::Validation;
use crate::urls::UrlUse;
use domain::{Currency, Micros};
use idna::AsciiDenyList;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::RangeInclusive;

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 120;
/// The longest slug, in bytes; as the edge's.
const MAX_SLUG_BYTES: usize = 64;
/// The longest name of a host (RFC 1035).
const MAX_DOMAIN_BYTES: usize = 253;
/// The end of the year 9999, the last that RFC 3339 can write.
const MAX_TIME: Micros = Micros(253_402_207_200_000_000);

impl Validation<'_> {
    /// Adds a fault at `pointer`.
    pub(crate) fn add(&mut self, reason: Reason, pointer: &str, message: impl Into<String>) {
        self.0.add(reason, pointer, message);
    }

    /// Adds a fault unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, reason: Reason, pointer: &str, message: &str) {
        self.0.require(holds, reason, pointer, message);
    }

    /// A name that people read. Markup in it is text: pages escape it.
    pub(crate) fn name(&mut self, pointer: &str, name: &str) {
        let fits = (1..=MAX_NAME_CHARS).contains(&name.chars().count())
            && !name.chars().any(|c| c.is_control() || is_invisible(c))
            && name.trim() == name;
        let message = "a name has 1 to 120 characters, no control or invisible characters, and no white space at its ends";
        self.require(fits, Reason::InvalidName, pointer, message);
    }

    /// A text of any length up to `max_chars`, with line breaks.
    pub(crate) fn text(&mut self, pointer: &str, text: &str, max_chars: usize) {
        let is_forbidden = |c: char| c.is_control() && c != '\n';
        if text.chars().count() > max_chars || text.chars().any(is_forbidden) {
            let message = format!(
                "the text must not exceed {max_chars} characters, nor contain control characters but line feeds"
            );
            self.add(Reason::InvalidText, pointer, message);
        }
    }

    /// A link's short path.
    pub(crate) fn slug(&mut self, pointer: &str, slug: &str) {
        let message = "a slug is 1 to 64 of the characters A-Z a-z 0-9 - _ .";
        self.require(is_identifier(slug), Reason::InvalidSlug, pointer, message);
    }

    /// A host name, which becomes that of DNS: `Bücher.example` becomes `xn--bcher-kva.example`.
    pub(crate) fn domain(&mut self, pointer: &str, domain: &mut String) {
        match dns_name(domain) {
            Some(name) => *domain = name,
            None => {
                let message = format!(
                    "{domain:?} is not a host name; write one without scheme, port and path, such as go.example.com"
                );
                self.add(Reason::InvalidDomain, pointer, message);
            }
        }
    }

    /// A URL with the macros of its use.
    pub(crate) fn url(&mut self, pointer: &str, url: &str, of: UrlUse) {
        if let Err(error) = of.check(url) {
            self.add(Reason::InvalidUrl, pointer, error.to_string());
        }
    }

    /// A code of ISO 4217, which becomes capitals.
    pub(crate) fn currency(&mut self, pointer: &str, code: &mut String) {
        match Currency::payable(code) {
            Some(currency) => *code = currency.code().to_owned(),
            None => {
                let message = format!(
                    "{code:?} is not a currency of ISO 4217 with minor units; write one such as EUR"
                );
                self.add(Reason::InvalidCurrency, pointer, message);
            }
        }
    }

    /// A name of the IANA database, which takes the spelling of the database.
    pub(crate) fn time_zone(&mut self, pointer: &str, name: &mut String) {
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(name);
        let known = zone
            .ok()
            .and_then(|zone| zone.iana_name().map(str::to_owned));
        match known {
            Some(known) => *name = known,
            None => {
                let message = format!(
                    "{name:?} is not a time zone of the IANA database; write one such as Europe/Oslo"
                );
                self.add(Reason::InvalidTimeZone, pointer, message);
            }
        }
    }

    /// Codes of ISO 3166-1, which become capitals.
    pub(crate) fn countries(&mut self, pointer: &str, countries: &mut [String]) {
        for (index, country) in countries.iter_mut().enumerate() {
            country.make_ascii_uppercase();
            if !is_country(country) {
                let message = format!(
                    "{country:?} is not a country of ISO 3166-1; write its two letters, such as NO"
                );
                self.add(
                    Reason::InvalidCountry,
                    &format!("{pointer}/{index}"),
                    message,
                );
            }
        }
        self.distinct(pointer, countries);
    }

    /// The number of a list's entries.
    pub(crate) fn count(&mut self, pointer: &str, count: usize, range: RangeInclusive<usize>) {
        if !range.contains(&count) {
            let (least, most) = (range.start(), range.end());
            let message = format!("{count} entries; {least} to {most} are possible");
            self.add(Reason::WrongCount, pointer, message);
        }
    }

    /// A number within a range.
    pub(crate) fn range(&mut self, pointer: &str, number: i64, range: RangeInclusive<i64>) {
        if !range.contains(&number) {
            let (least, most) = (range.start(), range.end());
            let message = format!("{number} is out of range; {least} to {most} are possible");
            self.add(Reason::OutOfRange, pointer, message);
        }
    }

    /// Entries of a list, none of which is there twice.
    pub(crate) fn distinct<T: Eq + Hash>(
        &mut self,
        pointer: &str,
        entries: impl IntoIterator<Item = T>,
    ) {
        let mut known = HashSet::new();
        for (index, entry) in entries.into_iter().enumerate() {
            if !known.insert(entry) {
                let pointer = format!("{pointer}/{index}");
                let message = "an earlier entry of the list is the same; remove one of them";
                self.add(Reason::Repeated, &pointer, message);
            }
        }
    }

    /// A period whose end is after its beginning.
    pub(crate) fn period(&mut self, pointer: &str, starts: Option<Micros>, ends: Option<Micros>) {
        let in_range = |time: Option<Micros>| time.is_none_or(|time| time <= MAX_TIME);
        let ordered = starts.is_none_or(|starts| ends.is_none_or(|ends| starts < ends));
        let message = "the end must be after the beginning, and both before the year 10000";
        let holds = ordered && in_range(starts) && in_range(ends);
        self.require(holds, Reason::InvalidPeriod, pointer, message);
    }

    /// A word out of a list.
    pub(crate) fn word(&mut self, pointer: &str, word: &str, known: &[&str]) {
        if !known.contains(&word) {
            let message = format!("{word:?} is not known; write one of {}", known.join(", "));
            self.add(Reason::UnknownWord, pointer, message);
        }
    }

    /// A short identifier: letters, digits and `-_.`.
    pub(crate) fn identifier(&mut self, pointer: &str, text: &str) {
        let message = "an identifier is 1 to 64 of the characters A-Z a-z 0-9 - _ .";
        self.require(is_identifier(text), Reason::InvalidText, pointer, message);
    }
}

/// Whether a character has no width or changes the direction of text: names with it look the same as others (Unicode
/// Technical Report 36).
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

/// Whether a text can be a slug: 1 to 64 letters, digits and `-_.`.
fn is_identifier(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_SLUG_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The name of a host in the form of DNS.
pub(crate) fn dns_name(domain: &str) -> Option<String> {
    let name = idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::URL).ok()?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // An address of IPv4 ends with a number, a host name does not.
    let is_name = name
        .rsplit('.')
        .next()
        .is_some_and(|top| top.bytes().any(|byte| byte.is_ascii_alphabetic()));
    let fits = name.len() <= MAX_DOMAIN_BYTES && is_name && name.split('.').all(is_label);
    fits.then(|| name.into_owned())
}
