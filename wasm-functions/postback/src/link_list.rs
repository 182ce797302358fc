//! The links of an advertiser's entry.

use serde::Deserialize;

/// The links whose clicks an advertiser may convert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum LinkList {
    /// The links with these ids.
    Ids(Vec<u32>),
    /// All links.
    All(AllLinks),
}

/// The keyword for all links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AllLinks {
    Any,
}

impl Default for LinkList {
    fn default() -> Self {
        Self::Ids(Vec::new())
    }
}
