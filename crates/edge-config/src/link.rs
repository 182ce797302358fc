//! A link as edges need it, and its encoding.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the encoding. Fields are only appended, under a new version; every version stays readable.
const RECORD_VERSION: u8 = 1;

/// An id with the name that it has now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedId {
    /// The id; 0 is none.
    pub id: u32,
    /// The name.
    pub name: String,
}

/// A link with everything that an edge needs to serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The link's id.
    pub id: u32,
    /// The host on which it is served; empty for every host.
    pub domain: String,
    /// The path.
    pub slug: String,
    /// The redirect's target, with macros.
    pub destination: String,
    /// The target while the link is paused.
    pub fallback: Option<String>,
    /// The redirect's status: 301, 302, 303, 307 or 308.
    pub code: u16,
    /// Whether visitors are not redirected to the destination now.
    pub is_paused: bool,
    /// Whether foreign query parameters are passed on.
    pub pass_query: bool,
    /// Whether `click_id` is appended to a destination without it.
    pub append_click_id: bool,
    /// The network that owns it.
    pub network: u32,
    /// The advertiser of the offer.
    pub advertiser: u32,
    /// The promoted offer.
    pub offer: NamedId,
    /// The affiliate's campaign.
    pub campaign: NamedId,
    /// The promoting affiliate.
    pub affiliate: NamedId,
    /// The creative; 0 is none.
    pub creative: u32,
    /// The terms in force; 0 is none.
    pub terms: u32,
}

/// Bytes that are no link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A newer encoding.
    #[error("encoding {0} of links is newer than this edge: upgrade it")]
    Newer(u8),
    /// Not a link.
    #[error("not a link: {0}")]
    Malformed(#[from] postcard::Error),
    /// No bytes.
    #[error("a link without content")]
    Empty,
    /// Bytes follow the link.
    #[error("{0} bytes follow the link")]
    TrailingBytes(usize),
}

impl LinkRecord {
    /// The encoded link.
    ///
    /// # Panics
    /// Never: every record can be encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![RECORD_VERSION])
            .expect("a record has no type that postcard refuses")
    }

    /// Decodes a link.
    ///
    /// # Errors
    /// When the bytes are not exactly one link.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            None => Err(RecordError::Empty),
            Some((&RECORD_VERSION, body)) => {
                let (link, rest) = postcard::take_from_bytes(body)?;
                if rest.is_empty() {
                    Ok(link)
                } else {
                    Err(RecordError::TrailingBytes(rest.len()))
                }
            }
            Some((newer, _)) => Err(RecordError::Newer(*newer)),
        }
    }
}
