//! Checks periodically whether the store responds. Reports may be rare, and operators must know before the next one.

use crate::health::{Dependency, Health};
use crate::metrics::Maker;
use crate::phase::Phase;
use crate::store::{ConversionStore, ConversionStoreError};
use prometheus::{IntGauge, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The periodic check.
pub(crate) struct StoreWatch {
    conversion_store: Arc<ConversionStore>,
    health: Arc<Health>,
    up: IntGauge,
}

impl StoreWatch {
    /// # Errors
    /// When its metric can't be registered.
    pub(crate) fn new(
        conversion_store: Arc<ConversionStore>,
        health: Arc<Health>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let help = "1 if the store, which evaluates reports, responded to the last check, else 0.";
        let up = Maker(registry).gauge("aggregator_store_up", help)?;
        Ok(Self {
            conversion_store,
            health,
            up,
        })
    }

    /// Checks until the aggregator stops.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                _ = ticks.tick() => {}
            }
            self.check().await;
        }
    }

    async fn check(&self) {
        let result = timeout(RESPONSE_TIMEOUT, self.conversion_store.ping()).await;
        let result = result.unwrap_or(Err(ConversionStoreError::TimedOut(RESPONSE_TIMEOUT)));
        if let Err(error) = &result
            && self.up.get() == 1
        {
            tracing::error!(%error, "the store does not respond; clicks are inserted, reports wait");
        }
        self.up.set(result.is_ok().into());
        let why = result.err().map(|error| error.to_string());
        self.health.set(Dependency::StoreConnection, why);
    }
}
