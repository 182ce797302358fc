//! What is known of a click when somebody asks for it by its id: who it belongs to, and what its affiliate
//! sent along.

use serde::{Deserialize, Serialize};

/// A click, as far as its affiliate may be told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClickFacts {
    pub(crate) link: String,
    pub(crate) offer: String,
    pub(crate) campaign: String,
    pub(crate) affiliate: String,
    pub(crate) country: String,
    pub(crate) device: String,
    pub(crate) source: String,
    pub(crate) external_id: String,
    /// `sub1` to `sub10`.
    pub(crate) subs: [String; 10],
}
