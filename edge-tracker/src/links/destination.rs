//! Destinations: an address with macros, taken apart once when links are loaded.
//!
//! A macro can't stand in the scheme or host: destinations come from links alone, so a visitor's
//! parameters can never choose where they lead.

use bytes::{BufMut as _, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use thiserror::Error;
use tracking_events::SUB_COUNT;

/// The longest destination as configured, in bytes.
const MAX_BYTES: usize = 2_048;

/// The longest destination with its macros filled in, in bytes.
const MAX_EXPANDED_BYTES: usize = 16 * 1_024;

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// For raw values: what can't stand in a URL or a header at all.
const UNSAFE: &AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Destination {
    pieces: Box<[Piece]>,
    /// Where passed-on parameters go: after this many pieces, before any fragment.
    query_end: usize,
    has_query: bool,
    has_click_id: bool,
    needs: Needs,
}

/// Values that are made only for destinations that ask for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The address as text.
    pub ip: bool,
    /// The autonomous system's number as text.
    pub asn: bool,
    /// The time as text.
    pub timestamp: bool,
}

/// A destination that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// Another scheme.
    #[error("a destination begins with https:// or http://")]
    Scheme,
    /// No host.
    #[error("a destination needs a host after ://")]
    Host,
    /// A macro in the host.
    #[error("a macro can't stand in the host: a visitor could then choose where the link leads")]
    MacroInHost,
    /// Characters that can't stand in a URL.
    #[error("{0:?} can't stand in an address; write it percent-encoded")]
    Character(char),
    /// Too long.
    #[error("a destination is at most {MAX_BYTES} bytes long")]
    TooLong,
    /// `{` without `}`.
    #[error("a macro is not closed: write {{name}}, or %7B for a literal brace")]
    Unclosed,
    /// A macro we don't know.
    #[error("there is no macro {{{0}}}; the macros are {MACRO_NAMES} (with a leading _ for raw)")]
    UnknownMacro(String),
}

/// What macros stand for; an unknown value is empty.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The click's id.
    pub click_id: &'a str,
    /// The link's slug.
    pub link: &'a str,
    /// The campaign's name.
    pub campaign: &'a str,
    /// The offer's name.
    pub offer: &'a str,
    /// The affiliate's name.
    pub affiliate: &'a str,
    /// `sub1` to `sub10`.
    pub subs: &'a [&'a str; SUB_COUNT],
    /// Two capitals.
    pub country: &'a str,
    /// Subdivision code.
    pub region: &'a str,
    /// The autonomous system's number.
    pub asn: &'a str,
    /// Kind of device.
    pub device: &'a str,
    /// Operating system.
    pub os: &'a str,
    /// Browser.
    pub browser: &'a str,
    /// Language tag.
    pub language: &'a str,
    /// The address, as stored.
    pub ip: &'a str,
    /// Seconds since 1970.
    pub timestamp: &'a str,
    /// The traffic source.
    pub source: &'a str,
    /// The affiliate's own id.
    pub external_id: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Macro { which: Macro, raw: bool },
}

macro_rules! macros {
    ($($variant:ident $name:literal $field:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Macro { $($variant,)* Sub(usize) }

        /// The macros, as told to the writer of a wrong one.
        const MACRO_NAMES: &str = concat!($("{", $name, "} ",)* "{sub1} to {sub10}");

        impl Macro {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => {
                        let number = name.strip_prefix("sub")?;
                        if number.starts_with(['0', '+']) {
                            return None;
                        }
                        let number = number.parse::<usize>().ok()?;
                        (1..=SUB_COUNT).contains(&number).then(|| Self::Sub(number - 1))
                    }
                }
            }

            const fn value<'a>(self, values: &Values<'a>) -> &'a str {
                match self { $(Self::$variant => values.$field,)* Self::Sub(n) => values.subs[n] }
            }
        }
    };
}

macros! {
    ClickId "click_id" click_id;
    Link "link" link;
    Campaign "campaign" campaign;
    Offer "offer" offer;
    Affiliate "affiliate" affiliate;
    Country "country" country;
    Region "region" region;
    Asn "asn" asn;
    Device "device" device;
    Os "os" os;
    Browser "browser" browser;
    Language "language" language;
    Ip "ip" ip;
    Timestamp "timestamp" timestamp;
    Source "source" source;
    ExternalId "external_id" external_id;
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, DestinationError> {
        if text.len() > MAX_BYTES {
            return Err(DestinationError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(DestinationError::Scheme)?;
        if !["https", "http"].contains(&scheme) {
            return Err(DestinationError::Scheme);
        }
        let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        if host.contains('{') {
            return Err(DestinationError::MacroInHost);
        }
        // A host is also ended early by '@' (credentials) and, for browsers, by '\'.
        if host.is_empty() || host.starts_with(':') || host.contains(['@', '\\']) {
            return Err(DestinationError::Host);
        }
        let unfit = |c: char| !c.is_ascii() || UNSAFE_IN_TEXT.contains(&c) || c.is_ascii_control();
        if let Some(character) = text.chars().find(|c| unfit(*c)) {
            return Err(DestinationError::Character(character));
        }
        let (address, fragment) = match text.find('#') {
            Some(at) => text.split_at(at),
            None => (&*text, ""),
        };
        let mut pieces = take_apart(address)?;
        let query_end = pieces.len();
        pieces.extend(take_apart(fragment)?);
        let click_id = |piece: &Piece| {
            matches!(
                piece,
                Piece::Macro {
                    which: Macro::ClickId,
                    ..
                }
            )
        };
        let needs = |wanted| {
            let is_wanted =
                |piece: &Piece| matches!(piece, Piece::Macro { which, .. } if *which == wanted);
            pieces.iter().any(is_wanted)
        };
        Ok(Self {
            needs: Needs {
                ip: needs(Macro::Ip),
                asn: needs(Macro::Asn),
                timestamp: needs(Macro::Timestamp),
            },
            has_query: address.contains('?'),
            has_click_id: pieces.iter().any(click_id),
            query_end,
            pieces: pieces.into(),
        })
    }
}

const UNSAFE_IN_TEXT: [char; 7] = [' ', '"', '<', '>', '\\', '^', '`'];

fn take_apart(mut text: &str) -> Result<Vec<Piece>, DestinationError> {
    let mut pieces = Vec::new();
    while let Some(open) = text.find('{') {
        if open > 0 {
            pieces.push(Piece::Text(text[..open].into()));
        }
        let rest = &text[open + 1..];
        let close = rest.find('}').ok_or(DestinationError::Unclosed)?;
        let (raw, name) = match rest[..close].strip_prefix('_') {
            Some(name) => (true, name),
            None => (false, &rest[..close]),
        };
        let which = Macro::named(name)
            .ok_or_else(|| DestinationError::UnknownMacro(rest[..close].into()))?;
        pieces.push(Piece::Macro { which, raw });
        text = &rest[close + 1..];
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

impl Destination {
    /// The same with `click_id={click_id}` added to its query, unless it has the click's id already.
    #[must_use]
    pub fn with_click_id(mut self) -> Self {
        if self.has_click_id {
            return self;
        }
        let separator = if self.has_query {
            "&click_id="
        } else {
            "?click_id="
        };
        let added = [
            Piece::Text(separator.into()),
            Piece::Macro {
                which: Macro::ClickId,
                raw: false,
            },
        ];
        let mut pieces = self.pieces.into_vec();
        pieces.splice(self.query_end..self.query_end, added);
        self.pieces = pieces.into();
        self.query_end += 2;
        self.has_query = true;
        self.has_click_id = true;
        self
    }

    /// Which values it asks for that are not at hand anyway.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        self.needs
    }

    /// Writes the address with its macros filled in and `passed_on` (decoded names and values)
    /// added to its query; false when it became too long.
    #[must_use]
    pub fn expand<'a>(
        &self,
        values: &Values<'_>,
        passed_on: impl Iterator<Item = (&'a str, &'a str)>,
        out: &mut BytesMut,
    ) -> bool {
        let (before, fragment) = self.pieces.split_at(self.query_end);
        before.iter().for_each(|piece| piece.write(values, out));
        let mut separator = if self.has_query { b'&' } else { b'?' };
        for (name, value) in passed_on {
            out.put_u8(separator);
            write(name, ENCODED, out);
            out.put_u8(b'=');
            write(value, ENCODED, out);
            separator = b'&';
        }
        fragment.iter().for_each(|piece| piece.write(values, out));
        out.len() <= MAX_EXPANDED_BYTES
    }
}

impl Piece {
    fn write(&self, values: &Values<'_>, out: &mut BytesMut) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            // URL-safe as it is, and in every destination.
            Self::Macro {
                which: which @ Macro::ClickId,
                ..
            } => out.extend_from_slice(which.value(values).as_bytes()),
            Self::Macro { which, raw } => {
                write(
                    which.value(values),
                    if *raw { UNSAFE } else { ENCODED },
                    out,
                );
            }
        }
    }
}

fn write(value: &str, set: &'static AsciiSet, out: &mut BytesMut) {
    for chunk in percent_encode(value.as_bytes(), set) {
        out.extend_from_slice(chunk.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values<'a>(subs: &'a [&'a str; SUB_COUNT]) -> Values<'a> {
        Values {
            click_id: "CLICK",
            link: "spring",
            campaign: "campaign 1",
            offer: "offer",
            affiliate: "ann",
            subs,
            country: "NO",
            region: "03",
            asn: "64500",
            device: "phone",
            os: "Android",
            browser: "Chrome",
            language: "en-us",
            ip: "192.0.2.0",
            timestamp: "1800000000",
            source: "newsletter",
            external_id: "x-1",
        }
    }

    fn expanded(text: &str, sub1: &str, passed_on: &[(&str, &str)]) -> String {
        let destination = Destination::try_from(String::from(text))
            .expect("right")
            .with_click_id();
        let subs = [sub1, "", "", "", "", "", "", "", "", "ten"];
        let mut out = BytesMut::new();
        assert!(destination.expand(&values(&subs), passed_on.iter().copied(), &mut out));
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    fn refused(text: &str) -> DestinationError {
        Destination::try_from(String::from(text)).expect_err("refused")
    }

    #[test]
    fn macros_are_filled_in_encoded_or_raw() {
        let text = "https://shop.example/{_sub1}/x?c={click_id}&a={campaign}&s={sub1}&t={sub10}";
        assert_eq!(
            expanded(text, "a/b c&d", &[]),
            "https://shop.example/a/b%20c&d/x?c=CLICK&a=campaign%201&s=a%2Fb%20c%26d&t=ten"
        );
    }

    #[test]
    fn the_click_id_and_passed_on_parameters_join_the_query_before_the_fragment() {
        assert_eq!(
            expanded(
                "https://shop.example/p#top",
                "",
                &[("a b", "ü&"), ("c", "")]
            ),
            "https://shop.example/p?click_id=CLICK&a%20b=%C3%BC%26&c=#top"
        );
        assert_eq!(
            expanded("https://shop.example/?x=1", "", &[]),
            "https://shop.example/?x=1&click_id=CLICK"
        );
    }

    #[test]
    fn wrong_destinations_are_refused() {
        assert_eq!(refused("javascript:alert(1)"), DestinationError::Scheme);
        assert_eq!(refused("ftp://shop.example/"), DestinationError::Scheme);
        assert_eq!(refused("https:///path"), DestinationError::Host);
        assert_eq!(
            refused("https://user@evil.example/"),
            DestinationError::Host
        );
        assert_eq!(
            refused("https://{sub1}.example/"),
            DestinationError::MacroInHost
        );
        assert_eq!(
            refused("https://shop.example{_sub1}"),
            DestinationError::MacroInHost
        );
        assert_eq!(
            refused("https://shop.example/{sub11}"),
            DestinationError::UnknownMacro("sub11".into())
        );
        assert_eq!(
            refused("https://shop.example/{nope}"),
            DestinationError::UnknownMacro("nope".into())
        );
        assert_eq!(
            refused("https://shop.example/{sub1"),
            DestinationError::Unclosed
        );
        assert_eq!(
            refused("https://shop.example/\r\nX: y"),
            DestinationError::Character('\r')
        );
        assert_eq!(
            refused("https://shop.example/ü"),
            DestinationError::Character('ü')
        );
        let message = refused("https://shop.example/{nope}").to_string();
        assert!(
            message.contains("{click_id}") && message.contains("{sub1} to {sub10}"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_header_or_leaves_the_host(sub1 in any::<String>(), key in any::<String>()) {
            let out = expanded("https://shop.example/{_sub1}?s={sub1}", &sub1, &[(&key, &sub1)]);
            prop_assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{out:?}");
            prop_assert!(out.starts_with("https://shop.example/"));
            prop_assert!(http::HeaderValue::from_str(&out).is_ok());
        }

        #[test]
        fn no_text_makes_it_panic(text in "https?://[ -~]{0,40}") {
            let _ = Destination::try_from(text);
        }
    }
}
