//! A request as a plain value, so that what is decided about it can be tried without a component.

use std::net::{IpAddr, SocketAddr};
use tracker_api::SignedRequest;

/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

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
        let mut values = self
            .headers
            .iter()
            .filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value.as_str())
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
