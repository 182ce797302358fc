//! Addresses with macros, `https://shop.example/?cid={click_id}`: taken apart and checked once, filled in
//! often.
//!
//! A macro can't stand in the scheme or host: whoever writes the address says where it leads, and no value
//! can change that. Which macros there are, and what they stand for, belongs to who uses this.
#![forbid(unsafe_code)]

mod host;
mod parameters;

use bytes::{BufMut as _, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
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

/// For raw values and passed-on parameters: what can't stand in a URL or a header at all.
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
    /// A host that is no name.
    #[error("{0:?} is not a host name")]
    HostName(Box<str>),
    /// A percent-encoded host, with the name that it stands for.
    #[error("a host can't be percent-encoded; write {0}")]
    EncodedHost(String),
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
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('{') {
            return Err(MacroUrlError::MacroInHost);
        }
        let authority = host::ascii(authority)?;
        let text = format!("{scheme}://{authority}{rest}");
        let unfit = |c: char| !c.is_ascii() || UNSAFE_IN_TEXT.contains(&c) || c.is_ascii_control();
        if let Some(character) = text.chars().find(|c| unfit(*c)) {
            return Err(MacroUrlError::Character(character));
        }
        let (address, fragment) = match text.find('#') {
            Some(at) => text.split_at(at),
            None => (&*text, ""),
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

    /// Writes the address with its macros filled in from `value` and `passed_on`, parameters as they
    /// were sent, added to its query; false when it became too long. Of those nothing is changed but
    /// characters that can't stand in a URL, and one with a name that is in the address's own query is
    /// left out: a reader could prefer it to the real one.
    #[must_use]
    pub fn expand<'v, 'p>(
        &self,
        value: impl Fn(M) -> &'v [u8],
        passed_on: impl Iterator<Item = &'p str>,
        out: &mut BytesMut,
    ) -> bool {
        let (before, fragment) = self.pieces.split_at(self.query_end);
        before.iter().for_each(|piece| piece.write(&value, out));
        let own_end = out.len();
        let mut separator = if self.has_query { b'&' } else { b'?' };
        for parameter in passed_on {
            if parameters::repeats_name(&out[..own_end], parameter.as_bytes()) {
                continue;
            }
            out.put_u8(separator);
            write(parameter.as_bytes(), UNSAFE, out);
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
    fn write<'v>(&self, value: &impl Fn(M) -> &'v [u8], out: &mut BytesMut) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Macro { which, .. } if which.is_url_safe() => {
                out.extend_from_slice(value(*which));
            }
            Self::Macro { which, raw } => {
                write(value(*which), if *raw { UNSAFE } else { ENCODED }, out);
            }
        }
    }
}

fn write(value: &[u8], set: &'static AsciiSet, out: &mut BytesMut) {
    for chunk in percent_encode(value, set) {
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

    fn expanded(url: &MacroUrl<Word>, one: &str, passed_on: &[&str]) -> String {
        let mut out = BytesMut::new();
        let value = |which| match which {
            Word::One => one.as_bytes(),
            Word::Safe => b"CLICK",
        };
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
            expanded(&url, "", &["a+b=%c3%BC", "c", "d="]),
            "https://shop.example/p?id=CLICK&a+b=%c3%BC&c&d=#top"
        );
        let url = parsed("https://shop.example/?x=1").with_parameter("id", Word::Safe);
        assert_eq!(
            expanded(&url, "", &[]),
            "https://shop.example/?x=1&id=CLICK"
        );
    }

    #[test]
    fn passed_on_parameters_stay_as_sent_but_safe() {
        let url = parsed("https://shop.example/");
        for (sent, arrives) in [
            ("_inputs_", "_inputs_"),
            ("a=100%&b=%zz", "a=100%&b=%zz"),
            ("city=H%E4me%0a", "city=H%E4me%0a"),
            ("a=(1)~*'!$,:@/?[]", "a=(1)~*'!$,:@/?[]"),
            ("ü=\u{85}", "%C3%BC=%C2%85"),
            (
                "a=\" <>\\^`{|}\r\n\0\x7f",
                "a=%22%20%3C%3E%5C%5E%60%7B%7C%7D%0D%0A%00%7F",
            ),
        ] {
            let out = expanded(&url, "", &[sent]);
            assert_eq!(out.strip_prefix("https://shop.example/?"), Some(arrives));
        }
    }

    #[test]
    fn passed_on_parameters_repeat_no_name_of_the_query() {
        let url = parsed("https://shop.example/p?c_d={safe}&%65%20f=1&{one}=2&g[]=3#c");
        for (name, is_passed_on) in [
            ("c_d", false),
            ("%63%5Fd", false),
            ("C_D", false),
            ("c+d", false),
            ("c%20d", false),
            ("+c.d", false),
            ("c[d", false),
            ("c%5Bd", false),
            ("c_d[]", false),
            ("c_d%00x", false),
            ("x=1;c_d", false),
            ("x;%43_d", false),
            ("e+f", false),
            ("own", false),
            ("g", false),
            ("g[k]", false),
            ("c%255Fd", true),
            ("x%3Bc_d", true),
            ("c_d_", true),
            ("c_", true),
            ("c", true),
            ("", true),
        ] {
            let out = expanded(&url, "own", &[&format!("{name}=passed")]);
            assert_eq!(out.contains("passed"), is_passed_on, "{name:?}: {out}");
        }
    }

    #[test]
    fn international_hosts_become_punycode() {
        for (host, expected) in [
            ("www.bücher.example", "www.xn--bcher-kva.example"),
            ("BÜCHER.example:8080", "xn--bcher-kva.example:8080"),
            ("straße.example", "xn--strae-oqa.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("Shop.example:443", "Shop.example:443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            let url = parsed(&format!("https://{host}/?c={{safe}}"));
            let expected = format!("https://{expected}/?c=CLICK");
            assert_eq!(expanded(&url, "", &[]), expected, "{host}");
        }
    }

    #[test]
    fn encoded_and_impossible_hosts_are_refused() {
        let encoded = |name: &str| MacroUrlError::EncodedHost(name.into());
        let no_name = |host: &str| MacroUrlError::HostName(host.into());
        for (host, error) in [
            ("b%C3%BCcher.example", encoded("xn--bcher-kva.example")),
            ("shop%2Eexample:8080", encoded("shop.example")),
            ("b%FCcher.example", no_name("b%FCcher.example")),
            ("shop.example%2Fü", no_name("shop.example/ü")),
            ("ü／evil.example", no_name("ü／evil.example")),
            ("ü＠evil.example", no_name("ü＠evil.example")),
            ("ü b.example", no_name("ü b.example")),
        ] {
            assert_eq!(refused(&format!("https://{host}/")), error, "{host}");
        }
        let message = refused("https://b%C3%BCcher.example/").to_string();
        assert_eq!(
            message,
            "a host can't be percent-encoded; write xn--bcher-kva.example"
        );
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
            let out = expanded(&url, &one, &[&key, &one]);
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
