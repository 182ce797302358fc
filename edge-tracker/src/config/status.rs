//! What is known of the configuration in use, for readiness and metrics.

use crate::links::ActiveLinks;
use crate::metrics::ConfigMetrics;
use domain::Micros;
use edge_config::{HeldVersion, Outcome, UpdateRefusal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version in use.
#[derive(Debug, Clone)]
pub struct ConfigStatus {
    version: Arc<AtomicU64>,
    links: Arc<ActiveLinks>,
    metrics: ConfigMetrics,
}

impl ConfigStatus {
    /// Begins with the version from the disk.
    #[must_use]
    pub fn new(held: HeldVersion, links: Arc<ActiveLinks>, metrics: ConfigMetrics) -> Self {
        let status = Self {
            version: Arc::default(),
            links,
            metrics,
        };
        status.set(held);
        status
    }

    /// Whether the edge holds a version, or serves a part of one.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.version.load(Ordering::Relaxed) > 0 || !self.links.load().is_empty()
    }

    pub(super) fn subscribed(&self, is_subscribed: bool) {
        self.metrics.subscribed.set(is_subscribed.into());
    }

    pub(super) fn responded(&self, outcome: &Outcome, held: HeldVersion) {
        let label = match outcome {
            Outcome::Applied => "applied",
            Outcome::Refused { code, .. } => {
                UpdateRefusal::from_number(*code).map_or("unknown", UpdateRefusal::name)
            }
        };
        self.metrics.updates.with_label_values(&[label]).inc();
        if *outcome == Outcome::Applied {
            self.set(held);
            let seconds = Micros::now().0 / 1_000_000;
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            self.metrics.applied_timestamp_seconds.set(seconds);
        }
    }

    fn set(&self, held: HeldVersion) {
        self.version.store(held.version, Ordering::Relaxed);
        let version = i64::try_from(held.version).unwrap_or(i64::MAX);
        self.metrics.version.set(version);
    }
}
