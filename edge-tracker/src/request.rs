//! Reads a request: its target, its host, its headers and its marks.
//!
//! Everything here is a pure function of the request; nothing is logged, and no response is sent.

mod path;

pub use path::RepairedPath;

use crate::refusal::Refusal;
use crate::visitor::agent::SentHints;
use http::header::{GetAll, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Request, Uri};
use std::borrow::Cow;
use tracking_events::Flags;

/// The target of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/c/{slug}`.
    Click(&'a str),
    /// `/i/{slug}.gif`.
    Pixel(&'a str),
}

impl<'a> Target<'a> {
    /// Parses `path`. All but the slug may be in capitals: QR codes hold more of those.
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

    /// The same kind of target for the link `slug`.
    #[must_use]
    pub const fn with_slug(self, slug: &str) -> Target<'_> {
        match self {
            Self::Click(_) => Target::Click(slug),
            Self::Pixel(_) => Target::Pixel(slug),
        }
    }
}

/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
/// The longest language tag kept; RFC 5646 (section 4.4.1) calls for room for 35.
const MAX_LANGUAGE_BYTES: usize = 35;

/// Parses the target of `request`.
///
/// # Errors
/// When it is neither a link nor a pixel, is too long, or has another method than GET and HEAD.
pub fn parse_target<B>(request: &Request<B>, max_url_bytes: usize) -> Result<Target<'_>, Refusal> {
    check_url_length(request.uri(), max_url_bytes)?;
    let target = Target::of(request.uri().path()).ok_or(Refusal::UnknownPath)?;
    check_method(request.method()).map(|()| target)
}

/// Checks that links and pixels accept `method`.
///
/// # Errors
/// When they do not.
pub fn check_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::MethodNotAllowed),
    }
}

/// Checks the length of a request's target.
///
/// # Errors
/// When it is longer than `max_url_bytes`.
pub fn check_url_length(uri: &Uri, max_url_bytes: usize) -> Result<(), Refusal> {
    let target = uri.path_and_query();
    if target.map_or(0, |target| target.as_str().len()) > max_url_bytes {
        return Err(Refusal::UrlTooLong);
    }
    Ok(())
}

/// The headers that the edge reads, found in one pass; of several with the same name the first counts.
#[derive(Debug, Default)]
pub struct RequestHeaders<'r> {
    host: Option<&'r HeaderValue>,
    agent: Option<&'r HeaderValue>,
    referrer: Option<&'r HeaderValue>,
    language: Option<&'r HeaderValue>,
    brands: Option<&'r HeaderValue>,
    mobile: Option<&'r HeaderValue>,
    platform: Option<&'r HeaderValue>,
    prefetch: bool,
    speculative: bool,
    hops: ForwardedChain<'r>,
}

/// The header lines in which proxies record their clients, in order: hardly ever more than one.
#[derive(Debug, Default)]
enum ForwardedChain<'r> {
    #[default]
    None,
    One(&'r HeaderValue),
    Several(GetAll<'r, HeaderValue>),
}

impl<'r> RequestHeaders<'r> {
    /// Reads `headers`; proxies record their clients in the header `hops`.
    #[must_use]
    pub fn find(headers: &'r HeaderMap, hops: &HeaderName) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "host" => &mut found.host,
                "user-agent" => &mut found.agent,
                "referer" => &mut found.referrer,
                "accept-language" => &mut found.language,
                "sec-ch-ua" => &mut found.brands,
                "sec-ch-ua-mobile" => &mut found.mobile,
                "sec-ch-ua-platform" => &mut found.platform,
                // From the Fetch and Nav Speculation standards.
                "sec-purpose" => {
                    found.speculative |= announces_prefetch(value);
                    continue;
                }
                // From older versions of Chromium, Safari and Firefox.
                "purpose" | "x-purpose" | "x-moz" => {
                    found.prefetch |= announces_prefetch(value);
                    continue;
                }
                _ if name == hops => {
                    found.hops = match found.hops {
                        ForwardedChain::None => ForwardedChain::One(value),
                        _ => ForwardedChain::Several(headers.get_all(hops)),
                    };
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }

    /// Whether the request is a prefetch that the browser repeats after an error response.
    #[must_use]
    pub const fn is_speculative(&self) -> bool {
        self.speculative
    }

    /// The lines of the forwarding header, last one first.
    pub fn hops(&self) -> impl Iterator<Item = &'r [u8]> {
        let (one, several) = match &self.hops {
            ForwardedChain::None => (None, None),
            ForwardedChain::One(line) => (Some(*line), None),
            ForwardedChain::Several(lines) => (None, Some(lines.iter().rev())),
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

/// Writes the requested host into `out`, in lower case, without port and without the dot of a fully qualified name.
/// False when it is absent or too long.
#[must_use]
pub fn host(uri: &Uri, headers: &RequestHeaders<'_>, out: &mut String) -> bool {
    out.clear();
    let named = match uri.host() {
        Some(host) => Some(host),
        None => headers.host.and_then(|host| host.to_str().ok()),
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

/// Checks that the requested `host`, if the request `is_named`, is one of `hosts`, of which none means any.
///
/// # Errors
/// When it is another one.
pub fn check_host(is_named: bool, host: &str, hosts: &[String]) -> Result<(), Refusal> {
    if hosts.is_empty() || (is_named && hosts.iter().any(|known| known == host)) {
        Ok(())
    } else {
        Err(Refusal::UnknownHost)
    }
}

/// The marks that follow from method and headers.
#[must_use]
pub fn marks(method: &Method, headers: &RequestHeaders<'_>) -> Flags {
    let mut flags = Flags::default();
    if method == Method::HEAD {
        flags.insert(Flags::HEAD);
    }
    if headers.prefetch || headers.speculative {
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
    // Validation is faster than replacement, and nearly all values are valid.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    }
}

/// The first language tag of `Accept-Language` in lower case, written into `out`.
pub fn language(headers: &RequestHeaders<'_>, out: &mut String) {
    out.clear();
    let accepted = headers.language.and_then(|value| value.to_str().ok());
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

    fn headers_of(request: &Request<()>) -> RequestHeaders<'_> {
        RequestHeaders::find(request.headers(), &header::FORWARDED)
    }

    fn marks_of(request: &Request<()>) -> Flags {
        marks(request.method(), &headers_of(request))
    }

    #[test]
    fn targets_are_parsed_or_refused() {
        let target =
            |method, uri| parse_target(&request(method, uri, &[]), 100).map(|t| format!("{t:?}"));
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
    fn prefetch_and_head_requests_are_marked() {
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
    fn hops_are_read_from_the_last_line() {
        let hops = |headers: &[(&str, &str)]| {
            let request = request("GET", "/c/a", headers);
            let headers = headers_of(&request);
            let lines = headers.hops().map(|line| String::from_utf8_lossy(line));
            lines.collect::<Vec<_>>().join(" | ")
        };
        assert_eq!(hops(&[("X-Forwarded-For", "a")]), "");
        assert_eq!(hops(&[("Forwarded", "a"), ("Host", "x")]), "a");
        let three = [("Forwarded", "a"), ("Forwarded", "b"), ("Forwarded", "c")];
        assert_eq!(hops(&three), "c | b | a");
    }

    #[test]
    fn host_is_normalised_without_case_port_and_dot() {
        let host = |value: &str| {
            let mut out = String::new();
            let request = request("GET", "/c/a", &[("Host", value)]);
            host(request.uri(), &headers_of(&request), &mut out).then_some(out)
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
    fn first_language_is_kept() {
        let language = |value: &str| {
            let mut out = String::new();
            let request = request("GET", "/", &[("Accept-Language", value)]);
            language(&headers_of(&request), &mut out);
            out
        };
        assert_eq!(language("en-US,en;q=0.9"), "en-us");
        assert_eq!(language("de;q=1"), "de");
        assert_eq!(language("<script>"), "");
        assert_eq!(language("*"), "");
    }
}
