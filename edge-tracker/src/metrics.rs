//! Metrics of an edge node for Prometheus. Each worker has its own series, so that no counter of the click path is
//! shared.

mod background;
mod config;

pub use background::{BackgroundMetrics, raise_to};
pub use config::ConfigMetrics;

use crate::refusal::Refusal;
use crate::shed::Shed;
use event_shipping::DisputeKind;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::time::Duration;
use tracking_events::Flags;

/// Bucket bounds of the time from a parsed request to the acceptance of its event, in seconds.
const CLICK_LOG_BUCKETS: &[f64] = &[
    1e-6, 2e-6, 3e-6, 5e-6, 7.5e-6, 1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2e-4,
    3e-4, 5e-4, 7.5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 1e-1, 1.0,
];

/// The counted marks and their names.
const MARKS: [(Flags, &str); 12] = [
    (Flags::REPEATED, "repeated"),
    (Flags::UNIQUENESS_UNKNOWN, "uniqueness_unknown"),
    (Flags::BOT, "bot"),
    (Flags::PREFETCH, "prefetch"),
    (Flags::HEAD, "head"),
    (Flags::PAUSED, "paused"),
    (Flags::MALFORMED_QUERY, "malformed_query"),
    (Flags::BAD_COST, "bad_cost"),
    (Flags::TRUNCATED, "truncated"),
    (Flags::CLOCK_WRONG, "clock_wrong"),
    (Flags::TIME_UNKNOWN, "time_unknown"),
    (Flags::MAIL_PROXY, "mail_proxy"),
];

/// Files that are reloaded while the node runs.
const RELOADED_FILES: [&str; 8] = [
    "advertisers",
    "agents",
    "certificates",
    "functions",
    "geo",
    "internal_api_token",
    "links",
    "secrets",
];
const RELOAD_OUTCOMES: [&str; 2] = ["loaded", "refused"];

/// Changes that `node::fleet` counts.
const TRUST_CHANGES: [&str; 10] = [
    "clock_stepped",
    "clock_out_of_bounds",
    "clock_agrees_again",
    "clock_step_accepted",
    "clock_anchored",
    "salt_turned",
    "salt_adopted",
    "salt_replaced",
    "salt_refused",
    "salt_write_failed",
];

/// Stages of a lane's sequences.
pub(crate) const LANE_STAGES: [&str; 3] = ["sealed", "sent", "acknowledged"];

/// Reasons for which connections to the aggregator end.
const DISCONNECTS: [&str; 13] = [
    "certificates",
    "connect",
    "connect_timeout",
    "connection",
    "journal_id",
    "read",
    "refused",
    "resolve",
    "revoked",
    "superseded",
    "unsound",
    "welcome_timeout",
    "write",
];

/// All metrics of the node.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    answered: IntCounterVec,
    marked: IntCounterVec,
    click_log: HistogramVec,
    connections: IntGaugeVec,
    lag: GaugeVec,
    refused: IntCounterVec,
    shed: IntCounterVec,
    lost: IntCounterVec,
    /// Messages to the internal API, by kind and outcome.
    pub reports: IntCounterVec,
    /// Open connections to the internal API's address.
    pub internal_api_connections: IntGauge,
    /// The most connections to the internal API's address, 0 without one.
    pub internal_api_max_connections: IntGauge,
    /// Reports rejected by functions, by reason and by whether they were logged.
    pub rejections: IntCounterVec,
    /// Links in the table.
    pub links: IntGauge,
    /// Reloads of files, by file and outcome.
    pub reloads: IntCounterVec,
    /// The state of journal, filters, caches, clock and visitor salt.
    pub background: BackgroundMetrics,
    /// Changes of the clock's trust and of the visitor salt, by change.
    pub trust_changes: IntCounterVec,
    /// The configuration from the control plane.
    pub config: ConfigMetrics,
    /// 1 while connected to the aggregator.
    pub connected: IntGauge,
    /// When this edge's certificate expires.
    pub certificate_expiry: IntGauge,
    /// Batches sent, retries included.
    pub batches: IntCounter,
    /// Bytes of batches sent, compressed.
    pub batch_bytes: IntCounter,
    /// Connections to the aggregator that ended, by reason.
    pub disconnects: IntCounterVec,
    /// Lanes whose state at the aggregator contradicts the journal, by reason.
    pub journal_disputes: IntCounterVec,
    /// Per lane: the last sequence sealed, sent and acknowledged.
    pub lanes: IntGaugeVec,
}

/// The metrics of one worker, looked up once.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// Clicks that got a redirect.
    pub clicks: IntCounter,
    /// Pixels served.
    pub impressions: IntCounter,
    /// Time from the parsed request to acceptance.
    pub click_log: Histogram,
    /// Open connections.
    pub connections: IntGauge,
    lag: Gauge,
    marked: [IntCounter; MARKS.len()],
    refused: IntCounterVec,
    shed: IntCounterVec,
    lost: IntCounterVec,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Panics
    /// Never: names and labels are constants.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            answered: counters(
                &registry,
                "edge_answered_total",
                "Clicks and impressions served, by kind",
                &["worker", "kind"],
            ),
            marked: counters(
                &registry,
                "edge_marked_total",
                "Clicks and impressions with a mark, by mark",
                &["worker", "mark"],
            ),
            click_log: histogram(&registry),
            connections: gauges(
                &registry,
                "edge_connections",
                "Open connections of visitors",
                &["worker"],
            ),
            lag: gauges_f64(
                &registry,
                "edge_lag_seconds",
                "Event-loop and accept-queue delay of a worker, the minimum of the last 100 ms",
                &["worker"],
            ),
            shed: counters(
                &registry,
                "edge_shed_total",
                "Work shed under overload, by kind",
                &["what"],
            ),
            refused: counters(
                &registry,
                "edge_refused_total",
                "Requests and connections refused, by reason",
                &["reason"],
            ),
            lost: counters(
                &registry,
                "edge_lost_total",
                "Clicks and impressions served but not logged, by reason",
                &["reason"],
            ),
            reports: counters(
                &registry,
                "edge_reports_total",
                "Reports of functions, by kind and outcome",
                &["kind", "outcome"],
            ),
            internal_api_connections: gauge(
                &registry,
                "edge_internal_api_connections",
                "Open connections to the internal API's address",
            ),
            internal_api_max_connections: gauge(
                &registry,
                "edge_internal_api_max_connections",
                "internal_api.max_connections: the most connections to the internal API's address; 0 without one",
            ),
            rejections: counters(
                &registry,
                "edge_rejections_total",
                "Reports rejected by functions, by reason and by whether they were logged",
                &["reason", "outcome"],
            ),
            links: gauge(&registry, "edge_links", "Links in the table"),
            reloads: counters(
                &registry,
                "edge_reloads_total",
                "Reloads of files, by file and outcome",
                &["file", "outcome"],
            ),
            background: BackgroundMetrics::register(&registry),
            trust_changes: counters(
                &registry,
                "edge_trust_changes_total",
                "Changes of the clock's trust and of the visitor salt, by change",
                &["change"],
            ),
            config: ConfigMetrics::register(&registry),
            connected: gauge(
                &registry,
                "edge_aggregator_connected",
                "1 while connected to the aggregator",
            ),
            certificate_expiry: gauge(
                &registry,
                "edge_certificate_expiry_timestamp_seconds",
                "When this edge's certificate expires",
            ),
            batches: counter(
                &registry,
                "edge_batches_sent_total",
                "Batches sent, retries included",
            ),
            batch_bytes: counter(
                &registry,
                "edge_batch_bytes_sent_total",
                "Compressed bytes of batches sent",
            ),
            disconnects: counters(
                &registry,
                "edge_aggregator_disconnects_total",
                "Connections to the aggregator that failed or ended, by reason",
                &["reason"],
            ),
            journal_disputes: counters(
                &registry,
                "edge_journal_disputes_total",
                "Lanes whose state at the aggregator contradicts the journal, by reason",
                &["reason"],
            ),
            lanes: gauges(
                &registry,
                "edge_lane_sequence",
                "Last sequence of a lane at each stage",
                &["lane", "stage"],
            ),
            registry,
        };
        // A counter that is absent until its first event hides the step from 0 to 1 from alerts.
        for refusal in Refusal::ALL {
            if *refusal == Refusal::Overloaded {
                continue;
            }
            metrics.refused.with_label_values(&[refusal.name()]);
        }
        for kind in DisputeKind::ALL {
            metrics.journal_disputes.with_label_values(&[kind.reason()]);
        }
        for shed in Shed::ALL {
            metrics.shed.with_label_values(&[shed.name()]);
        }
        for reason in event_journal::AppendError::REASONS {
            metrics.lost.with_label_values(&[reason]);
        }
        for (file, outcome) in RELOADED_FILES
            .iter()
            .flat_map(|file| RELOAD_OUTCOMES.map(|it| (file, it)))
        {
            metrics.reloads.with_label_values(&[*file, outcome]);
        }
        for change in TRUST_CHANGES {
            metrics.trust_changes.with_label_values(&[change]);
        }
        for reason in DISCONNECTS {
            metrics.disconnects.with_label_values(&[reason]);
        }
        metrics
    }

    /// The registry of all metrics.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// The metrics of worker `number`.
    #[must_use]
    pub fn worker(&self, number: u8) -> WorkerMetrics {
        self.labelled_worker(&number.to_string())
    }

    /// Creates the series of workers and lanes for `label`, so that they can be listed.
    pub(crate) fn describe(&self, label: &str) {
        self.labelled_worker(label);
        for stage in LANE_STAGES {
            self.lanes.with_label_values(&[label, stage]);
        }
    }

    fn labelled_worker(&self, worker: &str) -> WorkerMetrics {
        WorkerMetrics {
            clicks: self.answered.with_label_values(&[worker, "click"]),
            impressions: self.answered.with_label_values(&[worker, "impression"]),
            click_log: self.click_log.with_label_values(&[worker]),
            connections: self.connections.with_label_values(&[worker]),
            lag: self.lag.with_label_values(&[worker]),
            marked: MARKS.map(|(_, name)| self.marked.with_label_values(&[worker, name])),
            refused: self.refused.clone(),
            shed: self.shed.clone(),
            lost: self.lost.clone(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerMetrics {
    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.name()]).inc();
    }

    /// Counts shed work.
    pub fn shed(&self, shed: Shed) {
        self.shed.with_label_values(&[shed.name()]).inc();
    }

    /// Sets the queue delay of the worker.
    pub fn set_lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }

    /// Counts an event that was served but could not be logged.
    pub fn lost(&self, reason: &str) {
        self.lost.with_label_values(&[reason]).inc();
    }

    /// Counts the marks of an event.
    pub fn marked(&self, flags: Flags) {
        for ((flag, _), counter) in MARKS.iter().zip(&self.marked) {
            if flags.any(*flag) {
                counter.inc();
            }
        }
    }

    /// Records how long acceptance took.
    pub fn observe_click_log(&self, elapsed: Duration) {
        self.click_log.observe(elapsed.as_secs_f64());
    }
}

const VALID: &str = "names and labels are constants, each registered once";

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help).expect(VALID))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(
        registry,
        IntCounterVec::new(Opts::new(name, help), labels).expect(VALID),
    )
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help).expect(VALID))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(
        registry,
        IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID),
    )
}

fn gauges_f64(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(
        registry,
        GaugeVec::new(Opts::new(name, help), labels).expect(VALID),
    )
}

fn gauge_f64(registry: &Registry, name: &str, help: &str) -> Gauge {
    registered(registry, Gauge::new(name, help).expect(VALID))
}

fn histogram(registry: &Registry) -> HistogramVec {
    let name = "edge_click_log_seconds";
    let help = "From a parsed request to the acceptance of its event in the journal";
    let options = HistogramOpts::new(name, help).buckets(CLICK_LOG_BUCKETS.to_vec());
    registered(
        registry,
        HistogramVec::new(options, &["worker"]).expect(VALID),
    )
}
