//! A request as a plain value, so that what is decided about it can be tried without a component.

use std::net::{IpAddr, SocketAddr};
use tracker_api::SignedRequest;

/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// Where the host names the client.
const CLIENT_HEADER: &str = "spin-client-addr";
/// What some programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of a body without the mark that may be before it; signatures are over the body with it.
#[must_use]
pub fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// A request, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// As sent, not decoded.
    pub path: String,
    /// As sent, not decoded, without its question mark.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// As sent. One that is too long need not be all there, but is longer than [`MAX_BODY_BYTES`].
    pub body: Vec<u8>,
    /// Whether the body broke off, or was not written as HTTP says: nobody knows what was meant.
    pub broken: bool,
    /// Who sent it, if that is known.
    pub client: Option<IpAddr>,
}

impl Request {
    /// The value of a header that was sent once; of two, nobody knows which was meant.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.header_values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// All values of a header, in the order they came.
    pub fn header_values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let values = self.headers.iter();
        let values = values.filter(move |(sent, _)| sent.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str())
    }

    /// The request as it travels with a report that its signature proves, with the headers of these names.
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

    /// The address that the host names: its header is the last one, after those that the client made up.
    #[must_use]
    pub fn client_named_by_host(&self) -> Option<IpAddr> {
        let mut named = self.header_values(CLIENT_HEADER);
        named.next_back().and_then(Self::client_of)
    }

    /// Reads what the host says of who sent it: an address and a port.
    #[must_use]
    pub fn client_of(spin_client_addr: &str) -> Option<IpAddr> {
        let address: SocketAddr = spin_client_addr.parse().ok()?;
        Some(address.ip().to_canonical())
    }

    /// Who sent it, as text; empty when that is not known.
    #[must_use]
    pub fn client_text(&self) -> String {
        self.client.map(|it| it.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_sent_twice_says_nothing() {
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
    fn mapped_addresses_are_the_addresses_they_map() {
        let of = |text| Request::client_of(text).map(|it| it.to_string());
        assert_eq!(
            of("[::ffff:203.0.113.7]:80").as_deref(),
            Some("203.0.113.7")
        );
        assert_eq!(of("[2001:db8::1]:80").as_deref(), Some("2001:db8::1"));
        assert_eq!(of("203.0.113.7"), None);
    }
}
