//! The facts of a click that postbacks may contain: its campaign and affiliate, and the affiliate's own parameters.

use serde::{Deserialize, Serialize};

/// The facts of a click that its affiliate may receive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
// Facts stored by an earlier version lack fields that were added later.
#[serde(default)]
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
