//! Metrics of the configuration from the control plane.

use super::{counters, gauge};
use edge_config::UpdateRefusal;
use prometheus::{IntCounterVec, IntGauge, Registry};

/// The metrics of the configuration from the control plane; all zero with a links file.
#[derive(Debug, Clone)]
pub struct ConfigMetrics {
    /// The version in use.
    pub version: IntGauge,
    /// When it was applied.
    pub applied_timestamp_seconds: IntGauge,
    /// 1 while updates are received.
    pub subscribed: IntGauge,
    /// Updates, by outcome.
    pub updates: IntCounterVec,
}

impl ConfigMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            version: gauge(
                registry,
                "edge_config_version",
                "Version of the configuration in use; 0 for none",
            ),
            applied_timestamp_seconds: gauge(
                registry,
                "edge_config_applied_timestamp_seconds",
                "When the configuration in use was applied; 0 if not since the start",
            ),
            subscribed: gauge(
                registry,
                "edge_config_subscribed",
                "1 while updates of the configuration are received",
            ),
            updates: counters(
                registry,
                "edge_config_updates_total",
                "Updates of the configuration, by outcome: applied, or the reason of the refusal",
                &["outcome"],
            ),
        };
        let refusals = UpdateRefusal::ALL.iter().map(|reason| reason.name());
        for outcome in refusals.chain(["applied", "unknown"]) {
            metrics.updates.with_label_values(&[outcome]);
        }
        metrics
    }
}
