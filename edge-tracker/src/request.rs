//! Reading a request: what is asked for, for whom, and how it should be marked.
//!
//! Everything here is a plain function of the request; nothing is logged or answered.

mod path;

pub use path::MendedPath;

use crate::refusal::Refusal;
use crate::visitor::agent::SentHints;
use http::header::{GetAll, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Request, Uri};
use std::borrow::Cow;
use tracking_events::Flags;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/c/{slug}`.
    Click(&'a str),
    /// `/i/{slug}.gif`.
    Pixel(&'a str),
}

impl<'a> Target<'a> {
    /// What `path` is for. All but the slug may be in capitals, which QR codes hold more of.
    fn of(path: &'a str) -> Option<Self> {
        let (directory, file) = path.split_at_checked(3)?;
        if directory.eq_ignore_ascii_case("/c/") {
            return Some(Self::Click(file));
        }
        let (slug, ending) = file.split_at_checked(file.len().checked_sub(4)?)?;
        let is_pixel = directory.eq_ignore_ascii_case("/i/") && ending.eq_ignore_ascii_case(".gif");
        is_pixel.then_some(Self::Pixel(slug))
    }

    /// The link's name.
    #[must_use]
    pub const fn slug(self) -> &'a str {
        let (Self::Click(slug) | Self::Pixel(slug)) = self;
        slug
    }

    /// The same of the link `slug`.
    #[must_use]
    pub const fn with_slug(self, slug: &str) -> Target<'_> {
        match self {
            Self::Click(_) => Target::Click(slug),
            Self::Pixel(_) => Target::Pixel(slug),
        }
    }
}

/// The longest `Referer` kept, in bytes.
pub const MAX_REFERRER_BYTES: usize = 1_024;
/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
/// The longest language tag kept; RFC 5646 (section 4.4.1) calls for room for 35.
const MAX_LANGUAGE_BYTES: usize = 35;

/// Finds out what `request` is for.
///
/// # Errors
/// When it is neither a link nor a pixel, or not a method that either answers.
pub fn target<B>(request: &Request<B>, max_url_bytes: usize) -> Result<Target<'_>, Refusal> {
    fits(request.uri(), max_url_bytes)?;
    let target = Target::of(request.uri().path()).ok_or(Refusal::UnknownPath)?;
    answers(request.method()).map(|()| target)
}

/// Whether links and pixels answer `method`.
///
/// # Errors
/// When they do not.
pub fn answers(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::MethodNotAllowed),
    }
}

/// Whether a request's target is not too long.
///
/// # Errors
/// When it is.
pub fn fits(uri: &Uri, max_url_bytes: usize) -> Result<(), Refusal> {
    let target = uri.path_and_query();
    if target.map_or(0, |target| target.as_str().len()) > max_url_bytes {
        return Err(Refusal::UrlTooLong);
    }
    Ok(())
}

/// The headers that matter, found in one pass; of several with the same name the first counts.
#[derive(Debug, Default)]
pub struct Heads<'r> {
    host: Option<&'r HeaderValue>,
    agent: Option<&'r HeaderValue>,
    referrer: Option<&'r HeaderValue>,
    language: Option<&'r HeaderValue>,
    brands: Option<&'r HeaderValue>,
    mobile: Option<&'r HeaderValue>,
    platform: Option<&'r HeaderValue>,
    prefetch: bool,
    speculative: bool,
    hops: Hops<'r>,
}

/// The lines of the header in which proxies write whom they were asked by, in their order: hardly
/// ever more than one.
#[derive(Debug, Default)]
enum Hops<'r> {
    #[default]
    None,
    One(&'r HeaderValue),
    Several(GetAll<'r, HeaderValue>),
}

impl<'r> Heads<'r> {
    /// Looks through `headers`, where proxies write into `hops`.
    #[must_use]
    pub fn find(headers: &'r HeaderMap, hops: &HeaderName) -> Self {
        let mut heads = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "host" => &mut heads.host,
                "user-agent" => &mut heads.agent,
                "referer" => &mut heads.referrer,
                "accept-language" => &mut heads.language,
                "sec-ch-ua" => &mut heads.brands,
                "sec-ch-ua-mobile" => &mut heads.mobile,
                "sec-ch-ua-platform" => &mut heads.platform,
                // In the Fetch and Nav Speculation standards.
                "sec-purpose" => {
                    heads.speculative |= announces_prefetch(value);
                    continue;
                }
                // What older Chromium, Safari and Firefox versions send.
                "purpose" | "x-purpose" | "x-moz" => {
                    heads.prefetch |= announces_prefetch(value);
                    continue;
                }
                _ if name == hops => {
                    heads.hops = match heads.hops {
                        Hops::None => Hops::One(value),
                        _ => Hops::Several(headers.get_all(hops)),
                    };
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert(value);
        }
        heads
    }

    /// Whether a browser fetches ahead that asks again when it is answered with an error.
    #[must_use]
    pub const fn is_speculative(&self) -> bool {
        self.speculative
    }

    /// What proxies wrote, line by line; the last one first.
    pub fn hops(&self) -> impl Iterator<Item = &'r [u8]> {
        let (one, several) = match &self.hops {
            Hops::None => (None, None),
            Hops::One(line) => (Some(*line), None),
            Hops::Several(lines) => (None, Some(lines.iter().rev())),
        };
        let lines = one.into_iter().chain(several.into_iter().flatten());
        lines.map(HeaderValue::as_bytes)
    }

    /// `User-Agent` as sent: empty when absent.
    #[must_use]
    pub fn agent(&self) -> &'r [u8] {
        bytes(self.agent)
    }

    /// The client hints as sent.
    #[must_use]
    pub fn hints(&self) -> SentHints<'r> {
        SentHints {
            brands: bytes(self.brands),
            mobile: bytes(self.mobile),
            platform: bytes(self.platform),
        }
    }

    /// `Referer`: empty when absent, with replacement characters where it is not UTF-8.
    #[must_use]
    pub fn referrer(&self) -> Cow<'r, str> {
        text(self.referrer)
    }
}

/// The host asked for, in lower case and without port and the dot of a fully qualified name, written
/// into `out`; false when there is none or it is too long to be one.
#[must_use]
pub fn host(uri: &Uri, heads: &Heads<'_>, out: &mut String) -> bool {
    out.clear();
    let named = match uri.host() {
        Some(host) => Some(host),
        None => heads.host.and_then(|host| host.to_str().ok()),
    };
    let Some(named) = named else { return false };
    // The colon of a port comes after the bracket of an IPv6 address, if there is one.
    let mark = named.bytes().rposition(|byte| matches!(byte, b':' | b']'));
    let end = match mark {
        Some(at) if named.as_bytes()[at] == b':' => at,
        _ => named.len(),
    };
    let named = &named[..end];
    let named = named.strip_suffix('.').unwrap_or(named);
    let fits = (1..=MAX_HOST_BYTES).contains(&named.len());
    if fits {
        out.push_str(named);
        out.make_ascii_lowercase();
    }
    fits
}

/// The marks that method and headers call for.
#[must_use]
pub fn marks(method: &Method, heads: &Heads<'_>) -> Flags {
    let mut flags = Flags::default();
    if method == Method::HEAD {
        flags.insert(Flags::HEAD);
    }
    if heads.prefetch || heads.speculative {
        flags.insert(Flags::PREFETCH);
    }
    flags
}

fn announces_prefetch(value: &HeaderValue) -> bool {
    let is_one = |word: &str| {
        ["prefetch", "prerender", "preview"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    };
    value.to_str().is_ok_and(|value| {
        value
            .split([';', ','])
            .any(|word| is_one(word.trim_matches([' ', '\t', '"'])))
    })
}

/// A header as sent: empty when absent.
fn bytes(value: Option<&HeaderValue>) -> &[u8] {
    value.map_or(b"", HeaderValue::as_bytes)
}

/// A header as text: empty when absent, with replacement characters where it is not UTF-8.
fn text(value: Option<&HeaderValue>) -> Cow<'_, str> {
    let Some(value) = value else {
        return Cow::Borrowed("");
    };
    // Checking is faster than replacing, and there is hardly ever anything to replace.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    }
}

/// `text` cut at a character's border to at most `max` bytes, and whether that took something away.
#[must_use]
pub fn cut(text: &str, max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(max);
    (&text[..end], end < text.len())
}

/// The first language tag of `Accept-Language` in lower case, written into `out`.
pub fn language(heads: &Heads<'_>, out: &mut String) {
    out.clear();
    let accepted = heads.language.and_then(|value| value.to_str().ok());
    let first = accepted
        .and_then(|list| list.split([',', ';']).next())
        .unwrap_or_default()
        .trim();
    let is_tag = |tag: &str| tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if first.len() <= MAX_LANGUAGE_BYTES && is_tag(first) {
        out.push_str(first);
        out.make_ascii_lowercase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(uri);
        headers
            .iter()
            .fold(builder, |b, (name, value)| b.header(*name, *value))
            .body(())
            .expect("valid")
    }

    fn heads(request: &Request<()>) -> Heads<'_> {
        Heads::find(request.headers(), &header::FORWARDED)
    }

    fn marks_of(request: &Request<()>) -> Flags {
        marks(request.method(), &heads(request))
    }

    #[test]
    fn targets_are_told_apart() {
        let target =
            |method, uri| target(&request(method, uri, &[]), 100).map(|t| format!("{t:?}"));
        assert_eq!(
            target("GET", "/c/spring?x=1"),
            Ok("Click(\"spring\")".into())
        );
        assert_eq!(
            target("HEAD", "/i/spring.gif"),
            Ok("Pixel(\"spring\")".into())
        );
        assert_eq!(target("GET", "/C/Spring"), Ok("Click(\"Spring\")".into()));
        assert_eq!(target("GET", "/I/A.GIF"), Ok("Pixel(\"A\")".into()));
        assert_eq!(target("GET", "/i/spring.png"), Err(Refusal::UnknownPath));
        assert_eq!(target("GET", "/i/gif"), Err(Refusal::UnknownPath));
        assert_eq!(target("GET", "/"), Err(Refusal::UnknownPath));
        assert_eq!(target("POST", "/c/spring"), Err(Refusal::MethodNotAllowed));
        assert_eq!(
            target("GET", &format!("/c/{}", "x".repeat(98))),
            Err(Refusal::UrlTooLong)
        );
    }

    #[test]
    fn prefetches_and_heads_are_marked() {
        for (name, value) in [
            ("Sec-Purpose", "prefetch;prerender"),
            ("Sec-Purpose", "prefetch;anonymous-client-ip"),
            ("Purpose", "prefetch"),
            ("X-Moz", "Prefetch"),
            ("X-Purpose", "preview"),
        ] {
            assert_eq!(
                marks_of(&request("GET", "/c/a", &[(name, value)])),
                Flags::PREFETCH,
                "{name}: {value}"
            );
        }
        assert_eq!(
            marks_of(&request("GET", "/c/a", &[("Purpose", "shopping")])),
            Flags::default()
        );
        assert_eq!(marks_of(&request("HEAD", "/c/a", &[])), Flags::HEAD);
    }

    #[test]
    fn hops_come_from_the_right_line_by_line() {
        let hops = |headers: &[(&str, &str)]| {
            let request = request("GET", "/c/a", headers);
            let heads = heads(&request);
            let lines = heads.hops().map(|line| String::from_utf8_lossy(line));
            lines.collect::<Vec<_>>().join(" | ")
        };
        assert_eq!(hops(&[("X-Forwarded-For", "a")]), "");
        assert_eq!(hops(&[("Forwarded", "a"), ("Host", "x")]), "a");
        let three = [("Forwarded", "a"), ("Forwarded", "b"), ("Forwarded", "c")];
        assert_eq!(hops(&three), "c | b | a");
    }

    #[test]
    fn hosts_lose_case_port_and_final_dot() {
        let host = |value: &str| {
            let mut out = String::new();
            let request = request("GET", "/c/a", &[("Host", value)]);
            host(request.uri(), &heads(&request), &mut out).then_some(out)
        };
        assert_eq!(host("Go.Example:8080").as_deref(), Some("go.example"));
        assert_eq!(host("[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(host("[2001:db8::1]").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(host("go.example.:443").as_deref(), Some("go.example"));
        assert_eq!(host("go.example..").as_deref(), Some("go.example."));
        assert_eq!(host("."), None);
        assert_eq!(host(""), None);
        assert_eq!(host(&"x".repeat(254)), None);
    }

    #[test]
    fn the_first_language_is_kept() {
        let language = |value: &str| {
            let mut out = String::new();
            let request = request("GET", "/", &[("Accept-Language", value)]);
            language(&heads(&request), &mut out);
            out
        };
        assert_eq!(language("en-US,en;q=0.9"), "en-us");
        assert_eq!(language("de;q=1"), "de");
        assert_eq!(language("<script>"), "");
        assert_eq!(language("*"), "");
    }
}
