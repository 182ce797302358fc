//! Metrics that background tasks report: the state of journal, filters, caches, clock and visitor salt.

use super::{counter, gauge, gauge_f64};
use prometheus::{Gauge, IntCounter, IntGauge, Registry};
use std::time::Duration;

/// The metrics of background tasks; all exist from the start.
#[derive(Debug, Clone)]
pub struct BackgroundMetrics {
    /// Recognised user agents in the shared cache.
    pub agent_cache_entries: IntGauge,
    /// Lookups of the shared cache that found nothing.
    pub agent_cache_misses: IntCounter,
    /// Visits in the filters of unique visits.
    pub filter_entries: IntGauge,
    /// Memory of these filters.
    pub filter_bytes: IntGauge,
    /// The estimated share of new visits that are marked as repeated.
    pub filter_false_positive_ratio: Gauge,
    /// Failed saves of these filters.
    pub filter_save_failures: IntCounter,
    /// Connections dropped by the kernel at a full accept queue.
    pub listen_drops: IntCounter,
    /// Size of all segment files.
    pub journal_bytes: IntGauge,
    /// The most bytes that all segment files may have together.
    pub journal_max_bytes: IntGauge,
    /// Segment files.
    pub journal_segments: IntGauge,
    /// Syncs of segment files.
    pub journal_syncs: IntCounter,
    /// Failed syncs.
    pub journal_sync_failures: IntCounter,
    last_sync: Gauge,
    unsynced: Gauge,
    clock_wrong: IntGauge,
    clock_ahead: Gauge,
    /// The number of the visitor salt's period.
    pub salt_period: IntGauge,
    salt_provisional: IntGauge,
}

impl BackgroundMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            agent_cache_entries: gauge(
                registry,
                "edge_agent_cache_entries",
                "Recognised user agents in the shared cache",
            ),
            agent_cache_misses: counter(
                registry,
                "edge_agent_cache_misses_total",
                "User agents that were not in the shared cache and had to be recognised",
            ),
            filter_entries: gauge(
                registry,
                "edge_unique_filter_entries",
                "Visits in the filters of unique visits",
            ),
            filter_bytes: gauge(
                registry,
                "edge_unique_filter_bytes",
                "Memory of the filters of unique visits",
            ),
            filter_false_positive_ratio: gauge_f64(
                registry,
                "edge_unique_filter_false_positive_ratio",
                "Estimated share of new visits that are marked as repeated",
            ),
            filter_save_failures: counter(
                registry,
                "edge_unique_filter_save_failures_total",
                "Failed saves of the filters of unique visits",
            ),
            listen_drops: counter(
                registry,
                "edge_listen_drops_total",
                "Connections dropped at a full accept queue of this machine or container (kernel ListenDrops)",
            ),
            journal_bytes: gauge(
                registry,
                "edge_journal_bytes",
                "Size of all segment files of the journal, preallocated space included",
            ),
            journal_max_bytes: gauge(
                registry,
                "edge_journal_max_bytes",
                "journal.max_bytes: the largest size of all segment files together",
            ),
            journal_segments: gauge(
                registry,
                "edge_journal_segments",
                "Segment files of the journal",
            ),
            journal_syncs: counter(
                registry,
                "edge_journal_syncs_total",
                "Syncs of segment files",
            ),
            journal_sync_failures: counter(
                registry,
                "edge_journal_sync_failures_total",
                "Failed syncs of segment files; replace the disk, then restart",
            ),
            last_sync: gauge_f64(
                registry,
                "edge_journal_last_sync_duration_seconds",
                "Duration of the last sync",
            ),
            unsynced: gauge_f64(
                registry,
                "edge_journal_unsynced_seconds",
                "Age of the oldest event that may not be durable yet; grows without end after a failed sync",
            ),
            clock_wrong: gauge(
                registry,
                "edge_clock_wrong",
                "1 while the system clock is not trusted",
            ),
            clock_ahead: gauge_f64(
                registry,
                "edge_clock_ahead_of_aggregator_seconds",
                "How far this clock was ahead of the aggregator's at the last welcome; 0 before the first",
            ),
            salt_period: gauge(
                registry,
                "edge_visitor_salt_period",
                "Number of the visitor salt's period",
            ),
            salt_provisional: gauge(
                registry,
                "edge_visitor_salt_provisional",
                "1 while this edge has no visitor salt of the fleet",
            ),
        }
    }

    /// Sets the duration of the last sync.
    pub fn set_last_sync(&self, duration: Duration) {
        self.last_sync.set(duration.as_secs_f64());
    }

    /// Sets the age of the oldest event that may not be durable yet.
    pub fn set_unsynced(&self, age: Duration) {
        self.unsynced.set(age.as_secs_f64());
    }

    /// Sets whether the system clock is not trusted.
    pub fn set_clock_wrong(&self, wrong: bool) {
        self.clock_wrong.set(wrong.into());
    }

    /// Sets how far this clock is ahead of the aggregator's.
    pub fn set_clock_ahead(&self, micros: i64) {
        self.clock_ahead.set(micros as f64 / 1e6);
    }

    /// Sets whether no other node knows the visitor salt.
    pub fn set_salt_provisional(&self, provisional: bool) {
        self.salt_provisional.set(provisional.into());
    }
}

/// Raises `counter` to a total that is counted elsewhere.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
