//! The state that all workers of an edge share. Workers only read it, or change it through atomics.

use super::Root;
use crate::functions::Functions;
use crate::links::Table;
use crate::unique::Filters;
use crate::visitor::address::{AddressStorage, ClientAddress};
use crate::visitor::agent::Agents;
use crate::visitor::geo::Geo;
use crate::visitor::identity::Identity;
use arc_swap::ArcSwap;
use std::sync::Arc;
use tracking_events::{KeyRing, NodeId};
use trusted_clock::TrustedClock;

/// The state of an edge that all its workers share.
#[derive(Debug)]
pub struct EdgeState {
    /// This node.
    pub node: NodeId,
    /// The links; each reload replaces the table.
    pub links: Arc<ArcSwap<Table>>,
    /// Looks up countries, regions and autonomous systems.
    pub geo: Geo,
    /// Recognises user agents.
    pub agents: Agents,
    /// Derives visitor ids; each worker has a copy.
    pub identity: Identity,
    /// Remembers visitors for uniqueness.
    pub filters: Filters,
    /// The keys that sign click ids; each reload replaces the ring.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// The time of day and how far it can be trusted.
    pub clock: Arc<TrustedClock>,
    /// Finds the client's address behind trusted proxies.
    pub client_address: ClientAddress,
    /// How much of an address is stored.
    pub address_storage: AddressStorage,
    /// Hosts that are served; empty means any.
    pub hosts: Vec<String>,
    /// Bytes kept of each own parameter.
    pub max_parameter_bytes: usize,
    /// The longest request target, in bytes.
    pub max_url_bytes: usize,
    /// The response of the bare domain.
    pub root: Root,
    /// Functions, if there are any.
    pub functions: Option<Functions>,
}
