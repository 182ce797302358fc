//! What is known of a visitor from one request: address, place, agent and id.
//!
//! Each file answers one question and keeps no record of anybody; what is counted, logged or
//! flagged because of an answer never belongs here.

pub mod address;
pub mod agent;
pub mod geo;
pub mod identity;
pub mod salt;

use address::AddressStorage;
use agent::RuleFiles;
use daemon::settings::{Bounded, HumanDuration};
use serde::Deserialize;
use std::time::Duration;

/// How visitors are told apart and what of them is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisitorSettings {
    /// How long one salt of the visitor ids lasts, the same on every node and the aggregator; a visitor
    /// is recognised for two periods at most.
    pub period: Bounded<HumanDuration, 1_000, 31_536_000_000>,
    /// How much of an address is stored.
    pub address_storage: AddressStorage,
    /// How many distinct user agents are remembered, in about 1 KiB each at worst.
    pub agent_cache_entries: usize,
    /// A user agent is cut to this many bytes before anything looks at it.
    pub max_agent_bytes: usize,
    /// Files with rules to recognise agents by.
    pub agents: RuleFiles,
}

impl Default for VisitorSettings {
    fn default() -> Self {
        Self {
            period: Bounded::new(HumanDuration(Duration::from_secs(24 * 60 * 60))),
            address_storage: AddressStorage::Truncated,
            agent_cache_entries: 65_536,
            max_agent_bytes: 512,
            agents: RuleFiles::default(),
        }
    }
}
