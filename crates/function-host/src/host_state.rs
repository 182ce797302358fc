//! The state that all functions of a host share: engine, metrics, capacity and key-value stores.

use crate::engine::Engine;
use crate::host_imports::{Entries, Stores};
use crate::metrics::Metrics;
use crate::outbound::InternalService;
use crate::request_body::RequestReader;
use crate::{LoadError, Settings};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Instances for the smoke test of a deployment, with one to spare.
const SMOKE_TEST_INSTANCES: usize = 2;
const MIN_INSTANCES: usize = 8;

pub(crate) struct HostState {
    pub(crate) engine: Engine,
    pub(crate) metrics: Metrics,
    /// Limits concurrent calls.
    pub(crate) call_permits: Arc<Semaphore>,
    /// Limits idle instances, so that the pool always has instances for calls and smoke tests.
    pub(crate) idle_permits: Arc<Semaphore>,
    pub(crate) request_reader: RequestReader,
    stores: Mutex<Stores>,
}

impl HostState {
    pub(crate) fn new(
        settings: &Settings,
        internal: &Arc<dyn InternalService>,
        registry: &Registry,
    ) -> Result<Self, LoadError> {
        let limits = &settings.limits;
        // One instance for each call, and as many that are idle or smoke-tested.
        let instances = limits.concurrency.saturating_mul(2).max(MIN_INSTANCES);
        let idle = instances - limits.concurrency - SMOKE_TEST_INSTANCES;
        let metrics = Metrics::new(registry);
        Ok(Self {
            engine: Engine::new(
                &settings.cache_dir,
                u32::try_from(instances).unwrap_or(u32::MAX),
                limits.memory_bytes,
                internal.clone(),
            )?,
            metrics: metrics.map_err(|error| LoadError::Engine(error.to_string()))?,
            call_permits: Arc::new(Semaphore::new(limits.concurrency)),
            idle_permits: Arc::new(Semaphore::new(idle)),
            request_reader: RequestReader::new(limits),
            stores: Mutex::default(),
        })
    }

    /// The stores with these labels, each empty until it is filled.
    pub(crate) fn stores(&self, labels: &[String]) -> Stores {
        let mut stores = self.stores.lock();
        let labelled = labels.iter();
        labelled
            .map(|label| (label.clone(), store(&mut stores, label).clone()))
            .collect()
    }

    /// Replaces the entries of the store.
    pub(crate) fn fill_store(&self, label: &str, entries: Entries) {
        let mut stores = self.stores.lock();
        store(&mut stores, label).store(Arc::new(entries));
    }
}

fn store<'s>(stores: &'s mut Stores, label: &str) -> &'s Arc<ArcSwap<Entries>> {
    let empty = || Arc::new(ArcSwap::from_pointee(Box::new(BTreeMap::new()) as Entries));
    stores.entry(label.into()).or_insert_with(empty)
}
