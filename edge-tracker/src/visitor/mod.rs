//! Attributes of a visitor from one request: address, location, agent and id.
//!
//! Nothing here stores visitors; counting, logging and marking never belong here.

pub mod address;
pub mod agent;
pub mod geo;
pub mod identity;
pub mod salt;

use address::AddressStorage;
use agent::RuleFiles;
use daemon::settings::{Bounded, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// How visitors are distinguished, and which attributes are stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VisitorSettings {
    /// The rotation period of the visitor salt, the same on every node and the aggregator; a visitor is recognised for
    /// at most two periods.
    pub period: Bounded<HumanDuration, 1_000, 31_536_000_000>,
    /// How much of a visitor's address is stored.
    pub address_storage: AddressStorage,
    /// The number of cached user agents, each of about 1 KiB at worst.
    pub agent_cache_entries: usize,
    /// A user agent is truncated to this many bytes before it is used.
    pub max_agent_bytes: usize,
    /// Files with rules for the recognition of agents.
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
