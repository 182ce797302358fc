//! A request as a plain value, so that decisions can be tested without a component.

use std::net::{IpAddr, SocketAddr};
use tracker_api::SignedRequest;

/// Maximum length of a body in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// The header in which the host names the client.
const CLIENT_HEADER: &str = "spin-client-addr";
/// The byte order mark that some programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body without its byte order mark; signatures cover the body with it.
#[must_use]
pub fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// A complete request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// The path, not decoded.
    pub path: String,
    /// The query, not decoded, without its question mark.
    pub query: String,
    /// Lower-case names, and values.
    pub headers: Vec<(String, String)>,
    /// The body. One above [`MAX_BODY_BYTES`] may be incomplete, but is longer than that limit.
    pub body: Vec<u8>,
    /// Whether the body is incomplete or violates HTTP, so that its meaning is unknown.
    pub broken: bool,
    /// The client's address, if known.
    pub client: Option<IpAddr>,
}

impl Request {
    /// The value of a header that occurs once; two values would be ambiguous.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.header_values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// All values of a header in the order of arrival.
    pub fn header_values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let values = self.headers.iter();
        let values = values.filter(move |(sent, _)| sent.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str())
    }

    /// Whether a body is to be read: a GET without one is common, and checking for an absent body costs as much as
    /// reading one. HTTP/2 and chunked requests announce their body by its type alone.
    #[must_use]
    pub fn may_have_body(&self) -> bool {
        let mut announced = ["content-length", "content-type"].into_iter();
        self.method != "GET" || announced.any(|name| self.header_values(name).next().is_some())
    }

    /// The request with the named headers, as it travels with a report that its signature proves.
    #[must_use]
    pub fn signed(&self, headers: &[&str]) -> SignedRequest<'static> {
        let needed = self.headers.iter().filter(|(sent, _)| {
            let mut names = headers.iter();
            names.any(|name| name.eq_ignore_ascii_case(sent))
        });
        SignedRequest {
            method: self.method.clone().into(),
            path: self.path.clone().into(),
            query: self.query.clone().into(),
            headers: needed
                .map(|(name, value)| (name.to_ascii_lowercase().into(), value.clone().into()))
                .collect(),
            body: self.body.clone(),
        }
    }

    /// The address that the host names: the host's header is the last one, after any that the client sent.
    #[must_use]
    pub fn client_named_by_host(&self) -> Option<IpAddr> {
        let mut named = self.header_values(CLIENT_HEADER);
        named.next_back().and_then(Self::client_of)
    }

    /// Parses the client's address and port as the host writes them.
    #[must_use]
    pub fn client_of(spin_client_addr: &str) -> Option<IpAddr> {
        let address: SocketAddr = spin_client_addr.parse().ok()?;
        Some(address.ip().to_canonical())
    }

    /// The client's address as text; empty if unknown.
    #[must_use]
    pub fn client_text(&self) -> String {
        self.client.map(|it| it.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_header_has_no_value() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut request = Request {
            headers: vec![header("x-signature", "a")],
            ..Request::default()
        };
        assert_eq!(request.header("X-Signature"), Some("a"));
        request.headers.push(header("x-signature", "b"));
        assert_eq!(request.header("x-signature"), None);
    }

    #[test]
    fn announced_bodies_are_read_for_any_method() {
        for (method, header, expected) in [
            ("POST", "", true),
            ("GET", "", false),
            ("GET", "accept", false),
            ("GET", "content-length", true),
            ("GET", "Content-Type", true),
        ] {
            let request = Request {
                method: method.to_owned(),
                headers: vec![(header.to_owned(), "1".to_owned())],
                ..Request::default()
            };
            assert_eq!(request.may_have_body(), expected, "{method} {header}");
        }
    }

    #[test]
    fn last_client_address_is_the_host_s() {
        let client = |values: &[&str]| {
            let header = |value: &&str| (CLIENT_HEADER.to_owned(), (*value).to_owned());
            let request = Request {
                headers: values.iter().map(header).collect(),
                ..Request::default()
            };
            request.client_named_by_host().map(|it| it.to_string())
        };
        let host = "198.51.100.7:4711";
        for (values, expected) in [
            (&[host][..], Some("198.51.100.7")),
            (&["203.0.113.9:80", host], Some("198.51.100.7")),
            (&["invented", host], Some("198.51.100.7")),
            (&[host, "unknown"], None),
            (&[], None),
        ] {
            assert_eq!(client(values).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let of = |text| Request::client_of(text).map(|it| it.to_string());
        assert_eq!(
            of("[::ffff:203.0.113.7]:80").as_deref(),
            Some("203.0.113.7")
        );
        assert_eq!(of("[2001:db8::1]:80").as_deref(), Some("2001:db8::1"));
        assert_eq!(of("203.0.113.7"), None);
    }
}
