//! The state that all workers of an edge share. Workers read it, or change it through atomics and
//! short locks of one shard.

use super::Root;
use crate::functions::Functions;
use crate::links::{ActiveLinks, Table};
use crate::unique::{Filters, UniqueSettings};
use crate::visitor::address::{AddressStorage, ClientAddress};
use crate::visitor::agent::Agents;
use crate::visitor::geo::{Geo, GeoSettings};
use crate::visitor::identity::Identity;
use crate::visitor::salt::{Ratchet, SaltState};
use arc_swap::ArcSwap;
use domain::NodeId;
use std::sync::Arc;
use tracking_events::KeyRing;
use trusted_clock::{EARLIEST_TIME, StepTolerance, TrustedClock};

/// The state of an edge that all its workers share.
#[derive(Debug)]
pub struct EdgeState {
    /// This node.
    pub node: NodeId,
    /// The links; each change replaces the table.
    pub links: Arc<ActiveLinks>,
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

impl EdgeState {
    /// The state of a node without files but these links, for tests and benchmarks. Its visitor salt is public.
    ///
    /// # Panics
    /// Never: default settings are valid.
    #[must_use]
    pub fn with_defaults(links: Table, keys: KeyRing) -> Self {
        let salt = Ratchet::new(86_400_000_000, 20_000, SaltState([7; 32]));
        Self {
            node: NodeId(1),
            links: Arc::new(ActiveLinks::new(links)),
            geo: Geo::open(&GeoSettings::default()),
            agents: Agents::new(1_000, 1_024),
            identity: Identity::fixed(salt.keys()),
            filters: Filters::new(&UniqueSettings::default()).expect("valid settings"),
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            clock: Arc::new(TrustedClock::new(StepTolerance::default(), EARLIEST_TIME)),
            client_address: ClientAddress::default(),
            address_storage: AddressStorage::Truncated,
            hosts: Vec::new(),
            max_parameter_bytes: 512,
            max_url_bytes: 8 << 10,
            root: Root::default(),
            functions: None,
        }
    }
}
