//! The facts of a click that postbacks may contain: its campaign and affiliate, and the affiliate's own parameters.

use serde::{Deserialize, Serialize};
use std::time::Duration;

const MIN_SEARCH_PAUSE: Duration = Duration::from_secs(1);
const MAX_SEARCH_PAUSE: Duration = Duration::from_secs(3_600);

/// The pause before a click is looked up again that has been awaited for `waited`: it grows with it.
pub(crate) fn search_pause(waited: Duration) -> Duration {
    (waited / 2).clamp(MIN_SEARCH_PAUSE, MAX_SEARCH_PAUSE)
}

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
