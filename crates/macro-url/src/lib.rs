//! URLs with macros, such as `https://shop.example/?cid={click_id}`: parsed and checked once, expanded
//! often.
//!
//! Invariant: scheme and host contain no macro, so no value changes the target of a URL.
//! The names and values of macros belong to the crates that use this one.
#![forbid(unsafe_code)]

mod host;
mod parameters;

use bytes::{BufMut as _, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use thiserror::Error;

/// The maximum length of a URL with unexpanded macros.
const MAX_TEMPLATE_BYTES: usize = 2_048;

/// The maximum length of an expanded URL.
const MAX_EXPANDED_BYTES: usize = 16 * 1_024;

/// All characters except RFC 3986's unreserved ones.
const VALUE_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Characters that are invalid in URLs and headers; encoded in raw values and pass-through parameters.
const UNSAFE_SET: &AsciiSet = &percent_encoding::CONTROLS
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

const FORBIDDEN_CHARACTERS: [char; 7] = [' ', '"', '<', '>', '\\', '^', '`'];

/// A set of macros.
pub trait Macro: Copy + PartialEq {
    /// The names of all macros, for the error message about an unknown one.
    const NAMES: &'static str;

    /// The macro with this name, which excludes the braces.
    fn from_name(name: &str) -> Option<Self>;

    /// Whether all values of the macro are valid without encoding.
    fn is_url_safe(self) -> bool {
        false
    }
}

/// A parsed URL with macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacroUrl<M> {
    pieces: Box<[Piece<M>]>,
    /// The number of pieces before the fragment; further parameters are added here.
    query_end: usize,
    has_query: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<M> {
    Text(Box<str>),
    Macro { which: M, raw: bool },
}

/// A URL that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MacroUrlError {
    /// Another scheme.
    #[error("a URL must start with https:// or http://")]
    Scheme,
    /// No host.
    #[error("a URL needs a host after ://, without user and password")]
    Host,
    /// A host that is not a valid name.
    #[error("{0:?} is not a host name")]
    HostName(Box<str>),
    /// A percent-encoded host, with the decoded name.
    #[error("a host can't be percent-encoded; write {0}")]
    EncodedHost(String),
    /// A macro in the host.
    #[error("a macro is not allowed in the host: its value could change the target of the URL")]
    MacroInHost,
    /// A character that is invalid in a URL.
    #[error("{0:?} is not allowed in a URL; write it percent-encoded")]
    Character(char),
    /// The URL is too long.
    #[error("a URL must not exceed {MAX_TEMPLATE_BYTES} bytes")]
    TooLong,
    /// A `{` without a `}`.
    #[error("a macro is not closed: write {{name}}, or %7B for a literal brace")]
    Unclosed,
    /// An unknown macro.
    #[error("there is no macro {{{name}}}; the macros are {names} (with a leading _ for raw)")]
    UnknownMacro {
        /// The name as written, without braces.
        name: String,
        /// The names of all macros.
        names: &'static str,
    },
}

/// The index, from 0, of a macro name `sub1` to `sub{count}`; `None` for other names.
#[must_use]
pub fn sub_index(name: &str, count: usize) -> Option<usize> {
    let number = name.strip_prefix("sub")?;
    if number.starts_with(['0', '+']) {
        return None;
    }
    let number = number.parse::<usize>().ok()?;
    (1..=count).contains(&number).then(|| number - 1)
}

impl<M: Macro> MacroUrl<M> {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is not a valid URL, or contains an unknown or misplaced macro.
    pub fn parse(text: &str) -> Result<Self, MacroUrlError> {
        if text.len() > MAX_TEMPLATE_BYTES {
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
        let authority = host::to_ascii(authority)?;
        let text = format!("{scheme}://{authority}{rest}");
        let is_forbidden =
            |c: char| !c.is_ascii() || FORBIDDEN_CHARACTERS.contains(&c) || c.is_ascii_control();
        if let Some(character) = text.chars().find(|c| is_forbidden(*c)) {
            return Err(MacroUrlError::Character(character));
        }
        let (address, fragment) = match text.find('#') {
            Some(at) => text.split_at(at),
            None => (&*text, ""),
        };
        let mut pieces = split_pieces(address)?;
        let query_end = pieces.len();
        pieces.extend(split_pieces(fragment)?);
        Ok(Self {
            has_query: address.contains('?'),
            query_end,
            pieces: pieces.into(),
        })
    }

    /// Whether the URL contains this macro.
    #[must_use]
    pub fn contains(&self, wanted: M) -> bool {
        let is_wanted =
            |piece: &Piece<M>| matches!(piece, Piece::Macro { which, .. } if *which == wanted);
        self.pieces.iter().any(is_wanted)
    }

    /// Adds the parameter `name={which}` to the query.
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

    /// Writes the URL with macros expanded by `value` and the `pass_through` parameters added to its
    /// query; false when the result is too long.
    ///
    /// Pass-through parameters are kept as sent, except that characters invalid in URLs are encoded. A
    /// parameter with a name in the URL's own query is dropped: a server could prefer it to the real one.
    #[must_use]
    pub fn expand<'v, 'p>(
        &self,
        value: impl Fn(M) -> &'v [u8],
        pass_through: impl Iterator<Item = &'p str>,
        out: &mut BytesMut,
    ) -> bool {
        let (before, fragment) = self.pieces.split_at(self.query_end);
        before.iter().for_each(|piece| piece.write(&value, out));
        let own_end = out.len();
        let mut separator = if self.has_query { b'&' } else { b'?' };
        for parameter in pass_through {
            if parameters::repeats_name(&out[..own_end], parameter.as_bytes()) {
                continue;
            }
            out.put_u8(separator);
            write_encoded(parameter.as_bytes(), UNSAFE_SET, out);
            separator = b'&';
        }
        fragment.iter().for_each(|piece| piece.write(&value, out));
        out.len() <= MAX_EXPANDED_BYTES
    }
}

fn split_pieces<M: Macro>(mut text: &str) -> Result<Vec<Piece<M>>, MacroUrlError> {
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
        let which = M::from_name(name).ok_or_else(|| MacroUrlError::UnknownMacro {
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
                write_encoded(
                    value(*which),
                    if *raw { UNSAFE_SET } else { VALUE_ENCODE_SET },
                    out,
                );
            }
        }
    }
}

fn write_encoded(value: &[u8], set: &'static AsciiSet, out: &mut BytesMut) {
    for chunk in percent_encode(value, set) {
        out.extend_from_slice(chunk.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum TestMacro {
        One,
        Safe,
    }

    impl Macro for TestMacro {
        const NAMES: &'static str = "{one} {safe}";

        fn from_name(name: &str) -> Option<Self> {
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

    fn expanded(url: &MacroUrl<TestMacro>, one: &str, pass_through: &[&str]) -> String {
        let mut out = BytesMut::new();
        let value = |which| match which {
            TestMacro::One => one.as_bytes(),
            TestMacro::Safe => b"CLICK",
        };
        assert!(url.expand(value, pass_through.iter().copied(), &mut out));
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    fn parsed(text: &str) -> MacroUrl<TestMacro> {
        MacroUrl::parse(text).expect("valid")
    }

    fn parse_error(text: &str) -> MacroUrlError {
        MacroUrl::<TestMacro>::parse(text).expect_err("rejected")
    }

    #[test]
    fn macros_expand_encoded_or_raw() {
        let url = parsed("https://shop.example/{_one}/x?c={safe}&s={one}");
        assert_eq!(
            expanded(&url, "a/b c&d", &[]),
            "https://shop.example/a/b%20c&d/x?c=CLICK&s=a%2Fb%20c%26d"
        );
        assert!(url.contains(TestMacro::Safe));
        assert!(!parsed("https://shop.example/{one}").contains(TestMacro::Safe));
    }

    #[test]
    fn parameters_join_the_query_before_the_fragment() {
        let url = parsed("https://shop.example/p#top").with_parameter("id", TestMacro::Safe);
        assert_eq!(
            expanded(&url, "", &["a+b=%c3%BC", "c", "d="]),
            "https://shop.example/p?id=CLICK&a+b=%c3%BC&c&d=#top"
        );
        let url = parsed("https://shop.example/?x=1").with_parameter("id", TestMacro::Safe);
        assert_eq!(
            expanded(&url, "", &[]),
            "https://shop.example/?x=1&id=CLICK"
        );
    }

    #[test]
    fn pass_through_parameters_stay_as_sent_and_safe() {
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
    fn pass_through_parameters_repeat_no_name_of_the_query() {
        let url = parsed("https://shop.example/p?c_d={safe}&%65%20f=1&{one}=2&g[]=3#c");
        for (name, is_kept) in [
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
            assert_eq!(out.contains("passed"), is_kept, "{name:?}: {out}");
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
    fn encoded_and_invalid_hosts_are_rejected() {
        let encoded = |name: &str| MacroUrlError::EncodedHost(name.into());
        let invalid = |host: &str| MacroUrlError::HostName(host.into());
        for (host, error) in [
            ("b%C3%BCcher.example", encoded("xn--bcher-kva.example")),
            ("shop%2Eexample:8080", encoded("shop.example")),
            ("b%FCcher.example", invalid("b%FCcher.example")),
            ("shop.example%2Fü", invalid("shop.example/ü")),
            ("ü／evil.example", invalid("ü／evil.example")),
            ("ü＠evil.example", invalid("ü＠evil.example")),
            ("ü b.example", invalid("ü b.example")),
        ] {
            assert_eq!(parse_error(&format!("https://{host}/")), error, "{host}");
        }
        let message = parse_error("https://b%C3%BCcher.example/").to_string();
        assert_eq!(
            message,
            "a host can't be percent-encoded; write xn--bcher-kva.example"
        );
    }

    #[test]
    fn invalid_addresses_are_rejected() {
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
            assert_eq!(parse_error(text), error, "{text}");
        }
        let message = parse_error("https://shop.example/{nope}").to_string();
        assert!(message.contains("no macro {nope}; the macros are {one} {safe}"));
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_header_or_changes_the_host(one in any::<String>(), key in any::<String>()) {
            let url = parsed("https://shop.example/{_one}?s={one}");
            let out = expanded(&url, &one, &[&key, &one]);
            prop_assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{out:?}");
            prop_assert!(out.starts_with("https://shop.example/"));
            prop_assert!(http::HeaderValue::from_str(&out).is_ok());
        }

        #[test]
        fn arbitrary_text_never_panics(text in "https?://[ -~]{0,40}") {
            let _ = MacroUrl::<TestMacro>::parse(&text);
        }
    }
}
