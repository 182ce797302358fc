//! What is known of a visitor from one request: address, place, agent and id.
//!
//! Each file answers one question and keeps no record of anybody; what is counted, logged or
//! flagged because of an answer never belongs here.

pub mod address;
pub mod agent;
pub mod geo;
pub mod identity;

use address::AddressStorage;
use daemon::settings::Period;
use serde::Deserialize;
use std::time::Duration;

/// How visitors are told apart and what of them is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisitorSettings {
    /// How long one salt of the visitor ids lasts; nobody can be followed for longer than two.
    pub period: Period,
    /// How much of an address is stored.
    pub address_storage: AddressStorage,
    /// How many distinct user agents are remembered, in about 1 KiB each at worst.
    pub agent_cache_entries: usize,
    /// A user agent is cut to this many bytes before anything looks at it.
    pub max_agent_bytes: usize,
}

impl Default for VisitorSettings {
    fn default() -> Self {
        Self {
            period: Period(Duration::from_secs(24 * 60 * 60)),
            address_storage: AddressStorage::Truncated,
            agent_cache_entries: 65_536,
            max_agent_bytes: 512,
        }
    }
}
