//! Addresses with macros, `https://shop.example/?cid={click_id}`: taken apart and checked once, filled in
//! often.
//!
//! A macro can't stand in the scheme or host: whoever writes the address says where it leads, and no value
//! can change that. Which macros there are, and what they stand for, belongs to who uses this.
#![forbid(unsafe_code)]

use bytes::{BufMut as _, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use thiserror::Error;

/// The longest address as written, in bytes.
const MAX_BYTES: usize = 2_048;

/// The longest address with its macros filled in, in bytes.
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

const UNSAFE_IN_TEXT: [char; 7] = [' ', '"', '<', '>', '\\', '^', '`'];

/// A set of macros.
pub trait Macro: Copy + PartialEq {
    /// All of them, as told to the writer of a wrong one.
    const NAMES: &'static str;

    /// The macro of this name, which has no braces.
    fn named(name: &str) -> Option<Self>;

    /// Whether its values need no encoding, whatever they are.
    fn is_url_safe(self) -> bool {
        false
    }
}

/// An address with macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacroUrl<M> {
    pieces: Box<[Piece<M>]>,
    /// Where more parameters go: after this many pieces, before any fragment.
    query_end: usize,
    has_query: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<M> {
    Text(Box<str>),
    Macro { which: M, raw: bool },
}

/// An address that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MacroUrlError {
    /// Another scheme.
    #[error("an address begins with https:// or http://")]
    Scheme,
    /// No host.
    #[error("an address needs a host after ://, without user and password")]
    Host,
    /// A macro in the host.
    #[error("a macro can't stand in the host: its value could then choose where the address leads")]
    MacroInHost,
    /// Characters that can't stand in a URL.
    #[error("{0:?} can't stand in an address; write it percent-encoded")]
    Character(char),
    /// Too long.
    #[error("an address is at most {MAX_BYTES} bytes long")]
    TooLong,
    /// `{` without `}`.
    #[error("a macro is not closed: write {{name}}, or %7B for a literal brace")]
    Unclosed,
    /// A macro that is none.
    #[error("there is no macro {{{name}}}; the macros are {names} (with a leading _ for raw)")]
    UnknownMacro {
        /// As written, without braces.
        name: String,
        /// Those there are.
        names: &'static str,
    },
}

/// The place, from 0, of the macro `sub1` to `sub{count}` that `name` is, if it is one.
#[must_use]
pub fn sub(name: &str, count: usize) -> Option<usize> {
    let number = name.strip_prefix("sub")?;
    if number.starts_with(['0', '+']) {
        return None;
    }
    let number = number.parse::<usize>().ok()?;
    (1..=count).contains(&number).then(|| number - 1)
}

impl<M: Macro> MacroUrl<M> {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// When it is no address, or holds a macro that is none or stands where none may.
    pub fn parse(text: &str) -> Result<Self, MacroUrlError> {
        if text.len() > MAX_BYTES {
            return Err(MacroUrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(MacroUrlError::Scheme)?;
        if !["https", "http"].contains(&scheme) {
            return Err(MacroUrlError::Scheme);
        }
        let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        if host.contains('{') {
            return Err(MacroUrlError::MacroInHost);
        }
        // A host is also ended early by '@' (credentials) and, for browsers, by '\'.
        if host.is_empty() || host.starts_with(':') || host.contains(['@', '\\']) {
            return Err(MacroUrlError::Host);
        }
        let unfit = |c: char| !c.is_ascii() || UNSAFE_IN_TEXT.contains(&c) || c.is_ascii_control();
        if let Some(character) = text.chars().find(|c| unfit(*c)) {
            return Err(MacroUrlError::Character(character));
        }
        let (address, fragment) = match text.find('#') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let mut pieces = take_apart(address)?;
        let query_end = pieces.len();
        pieces.extend(take_apart(fragment)?);
        Ok(Self {
            has_query: address.contains('?'),
            query_end,
            pieces: pieces.into(),
        })
    }

    /// Whether `wanted` is in it.
    #[must_use]
    pub fn asks_for(&self, wanted: M) -> bool {
        let is_wanted =
            |piece: &Piece<M>| matches!(piece, Piece::Macro { which, .. } if *which == wanted);
        self.pieces.iter().any(is_wanted)
    }

    /// The same with `name={which}` added to its query.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, which: M) -> Self {
        let separator = if self.has_query { '&' } else { '?' };
        let added = [
            Piece::Text(format!("{separator}{name}=").into()),
            Piece::Macro { which, raw: false },
        ];
        let mut pieces = self.pieces.into_vec();
        pieces.splice(self.query_end..self.query_end, added);
        self.pieces = pieces.into();
        self.query_end += 2;
        self.has_query = true;
        self
    }

    /// Writes the address with its macros filled in from `value` and `passed_on` (decoded names and
    /// values) added to its query; false when it became too long. A passed-on parameter whose name is
    /// in the address's own query is left out: a reader could prefer it to the real one.
    #[must_use]
    pub fn expand<'v, 'p>(
        &self,
        value: impl Fn(M) -> &'v str,
        passed_on: impl Iterator<Item = (&'p str, &'p str)>,
        out: &mut BytesMut,
    ) -> bool {
        let (before, fragment) = self.pieces.split_at(self.query_end);
        before.iter().for_each(|piece| piece.write(&value, out));
        let own_end = out.len();
        let mut separator = if self.has_query { b'&' } else { b'?' };
        for (name, passed) in passed_on {
            if repeats_name(&out[..own_end], name) {
                continue;
            }
            out.put_u8(separator);
            write(name, ENCODED, out);
            out.put_u8(b'=');
            write(passed, ENCODED, out);
            separator = b'&';
        }
        fragment.iter().for_each(|piece| piece.write(&value, out));
        out.len() <= MAX_EXPANDED_BYTES
    }
}

fn take_apart<M: Macro>(mut text: &str) -> Result<Vec<Piece<M>>, MacroUrlError> {
    let mut pieces = Vec::new();
    while let Some(open) = text.find('{') {
        if open > 0 {
            pieces.push(Piece::Text(text[..open].into()));
        }
        let rest = &text[open + 1..];
        let close = rest.find('}').ok_or(MacroUrlError::Unclosed)?;
        let (raw, name) = match rest[..close].strip_prefix('_') {
            Some(name) => (true, name),
            None => (false, &rest[..close]),
        };
        let which = M::named(name).ok_or_else(|| MacroUrlError::UnknownMacro {
            name: rest[..close].into(),
            names: M::NAMES,
        })?;
        pieces.push(Piece::Macro { which, raw });
        text = &rest[close + 1..];
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

impl<M: Macro> Piece<M> {
    fn write<'v>(&self, value: &impl Fn(M) -> &'v str, out: &mut BytesMut) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Macro { which, .. } if which.is_url_safe() => {
                out.extend_from_slice(value(*which).as_bytes());
            }
            Self::Macro { which, raw } => {
                write(value(*which), if *raw { UNSAFE } else { ENCODED }, out);
            }
        }
    }
}

/// Whether a parameter of the decoded `name` would be read as one that the query of `address` has.
fn repeats_name(address: &[u8], name: &str) -> bool {
    let query = address.iter().position(|byte| *byte == b'?');
    let query = query.map_or(&[][..], |at| &address[at + 1..]);
    let parameters = query.split(|byte| *byte == b'&');
    parameters
        .filter(|parameter| !parameter.is_empty())
        .filter_map(|parameter| parameter.split(|byte| *byte == b'=').next())
        .any(|own| is_read_alike(own, name))
}

/// Whether readers may take the encoded name `own` and the decoded name `other` for the same one.
///
/// The most liberal reader is PHP: it drops leading spaces and what follows a NUL, takes `.`, a space
/// and an unclosed `[` for `_`, and keeps `name[…]` under `name`.
fn is_read_alike(own: &[u8], other: &str) -> bool {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'+');
    let mut own = percent_decode(own)
        .skip_while(is_space)
        .take_while(|byte| !matches!(byte, 0 | b'['));
    let mut other = other.bytes().skip_while(is_space);
    loop {
        match (own.next(), other.next()) {
            (None, None | Some(0 | b'[')) => return true,
            (Some(a), Some(b)) if folded(a) == folded(b) => {}
            _ => return false,
        }
    }
}

const fn folded(byte: u8) -> u8 {
    match byte {
        b' ' | b'+' | b'.' | b'[' => b'_',
        other => other,
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

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Word {
        One,
        Safe,
    }

    impl Macro for Word {
        const NAMES: &'static str = "{one} {safe}";

        fn named(name: &str) -> Option<Self> {
            match name {
                "one" => Some(Self::One),
                "safe" => Some(Self::Safe),
                _ => None,
            }
        }

        fn is_url_safe(self) -> bool {
            self == Self::Safe
        }
    }

    fn expanded(url: &MacroUrl<Word>, one: &str, passed_on: &[(&str, &str)]) -> String {
        let mut out = BytesMut::new();
        let value = |which| if which == Word::One { one } else { "CLICK" };
        assert!(url.expand(value, passed_on.iter().copied(), &mut out));
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    fn parsed(text: &str) -> MacroUrl<Word> {
        MacroUrl::parse(text).expect("right")
    }

    fn refused(text: &str) -> MacroUrlError {
        MacroUrl::<Word>::parse(text).expect_err("refused")
    }

    #[test]
    fn macros_are_filled_in_encoded_or_raw() {
        let url = parsed("https://shop.example/{_one}/x?c={safe}&s={one}");
        assert_eq!(
            expanded(&url, "a/b c&d", &[]),
            "https://shop.example/a/b%20c&d/x?c=CLICK&s=a%2Fb%20c%26d"
        );
        assert!(url.asks_for(Word::Safe));
        assert!(!parsed("https://shop.example/{one}").asks_for(Word::Safe));
    }

    #[test]
    fn parameters_join_the_query_before_the_fragment() {
        let url = parsed("https://shop.example/p#top").with_parameter("id", Word::Safe);
        assert_eq!(
            expanded(&url, "", &[("a b", "ü&"), ("c", "")]),
            "https://shop.example/p?id=CLICK&a%20b=%C3%BC%26&c=#top"
        );
        let url = parsed("https://shop.example/?x=1").with_parameter("id", Word::Safe);
        assert_eq!(
            expanded(&url, "", &[]),
            "https://shop.example/?x=1&id=CLICK"
        );
    }

    #[test]
    fn passed_on_parameters_repeat_no_name_of_the_query() {
        let url = parsed("https://shop.example/p?c_d={safe}&%65%20f=1&{one}=2&g[]=3#c");
        for (name, is_passed_on) in [
            ("c_d", false),
            ("c d", false),
            (" c.d", false),
            ("c[d", false),
            ("c_d[]", false),
            ("c_d\0x", false),
            ("e f", false),
            ("own", false),
            ("g", false),
            ("g[k]", false),
            ("C_D", true),
            ("c_d_", true),
            ("c_", true),
            ("c", true),
            ("", true),
        ] {
            let out = expanded(&url, "own", &[(name, "passed")]);
            assert_eq!(out.contains("passed"), is_passed_on, "{name:?}: {out}");
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for (text, error) in [
            ("javascript:alert(1)", MacroUrlError::Scheme),
            ("ftp://shop.example/", MacroUrlError::Scheme),
            ("https:///path", MacroUrlError::Host),
            ("https://user@evil.example/", MacroUrlError::Host),
            ("https://{one}.example/", MacroUrlError::MacroInHost),
            ("https://shop.example{_one}", MacroUrlError::MacroInHost),
            ("https://shop.example/{one", MacroUrlError::Unclosed),
            (
                "https://shop.example/\r\nX: y",
                MacroUrlError::Character('\r'),
            ),
            ("https://shop.example/ü", MacroUrlError::Character('ü')),
        ] {
            assert_eq!(refused(text), error, "{text}");
        }
        let message = refused("https://shop.example/{nope}").to_string();
        assert!(message.contains("no macro {nope}; the macros are {one} {safe}"));
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_header_or_leaves_the_host(one in any::<String>(), key in any::<String>()) {
            let url = parsed("https://shop.example/{_one}?s={one}");
            let out = expanded(&url, &one, &[(&key, &one)]);
            prop_assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{out:?}");
            prop_assert!(out.starts_with("https://shop.example/"));
            prop_assert!(http::HeaderValue::from_str(&out).is_ok());
        }

        #[test]
        fn no_text_makes_it_panic(text in "https?://[ -~]{0,40}") {
            let _ = MacroUrl::<Word>::parse(&text);
        }
    }
}
