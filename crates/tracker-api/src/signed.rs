//! A signed request as it travels in a message: everything that is needed to verify its signature again.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;

/// The most bytes of a signed request, all its parts together: an event has room for it and for its own fields.
pub const MAX_SIGNED_BYTES: usize = 14 << 10;

/// A request as received. Headers are those that its signature or its parsing depends on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest<'a> {
    /// Such as `POST`.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// As sent, not decoded.
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    /// As sent, not decoded, without its question mark.
    #[serde(borrow)]
    pub query: Cow<'a, str>,
    /// Names in lower case, and values.
    #[serde(borrow)]
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// As sent; Base64 in JSON.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub body: Vec<u8>,
}

/// Without its content, which may hold secrets and personal data.
impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl SignedRequest<'_> {
    /// The bytes of all parts together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // Each text of an event is preceded by its length, in up to three bytes.
        let text = |text: &str| text.len() + 3;
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| text(name) + text(value)).sum();
        text(&self.method) + text(&self.path) + text(&self.query) + headers + self.body.len() + 6
    }
}

fn write_bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64.encode(bytes))
}

fn read_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    let decoded = BASE64.decode(text.as_bytes());
    decoded.map_err(|_| de::Error::custom("Base64 is expected"))
}
