//! The aggregator's metrics.

use crate::row_outcomes::{QUARANTINE_REASONS, REPORT_TABLES};
use event_shipping::{LaneKey, LaneState, RefuseCode};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Bucket bounds from 50 ms to 60 s, each about a quarter above the one before.
const FRESHNESS_SECONDS: &[f64] = &[
    0.05, 0.0625, 0.08, 0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.625, 0.8, 1.0, 1.25, 1.6,
    2.0, 2.5, 3.2, 4.0, 5.0, 6.25, 8.0, 10.0, 12.5, 16.0, 20.0, 25.0, 32.0, 40.0, 50.0, 60.0,
];

const INSERT_SECONDS: &[f64] = &[
    0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// All metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) edges: IntGaugeVec,
    received: IntGaugeVec,
    taken: IntGaugeVec,
    lag: IntGaugeVec,
    pub(crate) batches: IntCounterVec,
    pub(crate) batch_bytes: IntCounter,
    pub(crate) rows: IntCounterVec,
    pub(crate) blocks: IntCounter,
    pub(crate) insert_retries: IntCounter,
    pub(crate) insert_seconds: Histogram,
    pub(crate) freshness: Histogram,
    pub(crate) refused: IntCounterVec,
    pub(crate) quarantined: IntCounterVec,
    /// Claims of edges that the state here does not confirm.
    pub(crate) claims: IntCounterVec,
    lanes: IntGauge,
    pending_bytes: IntGauge,
    pub(crate) set_aside: IntCounter,
    pub(crate) clickhouse_up: IntGauge,
    pub(crate) clock_wrong: IntGauge,
}

/// Creates and registers metrics.
pub(crate) struct Maker<'a>(pub(crate) &'a Registry);

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let made = made?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help))
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help))
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// Counters whose series all exist from the start: alerts do not see the step to 1 of a series that is created with
    /// it.
    pub(crate) fn counters_of<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> prometheus::Result<IntCounterVec> {
        let counters = self.counters(name, help, &[label])?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Maker(registry);
        let lane = &["node", "lane"];
        Ok(Self {
            edges: make.gauges("aggregator_edges", "Connections of each edge.", &["node"])?,
            received: make.gauges(
                "aggregator_lane_received",
                "Highest sequence accepted from a lane.",
                lane,
            )?,
            taken: make.gauges(
                "aggregator_lane_taken",
                "Highest inserted sequence of a lane.",
                lane,
            )?,
            lag: make.gauges(
                "aggregator_lane_lag",
                "Events of a lane accepted but not inserted yet.",
                lane,
            )?,
            batches: make.counters_of(
                "aggregator_batches_total",
                "Batches by result.",
                "verdict",
                ["accepted", "duplicate", "overlap"],
            )?,
            batch_bytes: make.counter(
                "aggregator_batch_bytes_total",
                "Compressed bytes of accepted batches.",
            )?,
            rows: make.counters_of(
                "aggregator_rows_total",
                "Inserted rows, by table.",
                "table",
                ["clicks", "impressions"].into_iter().chain(REPORT_TABLES),
            )?,
            blocks: make.counter("aggregator_blocks_total", "Inserted blocks.")?,
            insert_retries: make.counter(
                "aggregator_insert_retries_total",
                "Failed inserts; each is retried.",
            )?,
            insert_seconds: make.histogram(
                "aggregator_insert_seconds",
                "Duration of a successful insert into one table.",
                INSERT_SECONDS,
            )?,
            freshness: make.histogram(
                "aggregator_freshness_seconds",
                "Time from an event to the insert of its block.",
                FRESHNESS_SECONDS,
            )?,
            refused: make.counters_of(
                "aggregator_refused_total",
                "Connections refused or closed by the aggregator, by reason.",
                "reason",
                ["handshake", "handshake_busy"]
                    .into_iter()
                    .chain(RefuseCode::ALL.iter().map(|code| code.name())),
            )?,
            quarantined: make.counters_of(
                "aggregator_quarantined_total",
                "Events or batches quarantined because they can't be decoded, by reason.",
                "reason",
                QUARANTINE_REASONS,
            )?,
            claims: make.counters_of(
                "aggregator_lane_claims_total",
                "Lanes for which an edge claims more acknowledged events than are known here: accepted for \
                 unknown lanes, ignored for known ones.",
                "outcome",
                ["accepted", "ignored"],
            )?,
            lanes: make.register(IntGauge::new(
                "aggregator_lanes",
                "Known lanes at the last Hello.",
            ))?,
            pending_bytes: make.register(IntGauge::new(
                "aggregator_pending_bytes",
                "Bytes charged for batches that are not inserted yet.",
            ))?,
            set_aside: make.counter(
                "aggregator_files_set_aside_total",
                "Damaged files renamed to *.corrupt.",
            )?,
            clickhouse_up: make.register(IntGauge::new(
                "aggregator_clickhouse_up",
                "1 if the last request to ClickHouse succeeded, else 0.",
            ))?,
            clock_wrong: make.register(IntGauge::new(
                "aggregator_clock_wrong",
                "1 while the system clock is not trusted, else 0.",
            ))?,
        })
    }

    /// Creates the series of nodes and lanes for `label`, so that they can be listed.
    pub(crate) fn describe(&self, label: &str) {
        self.edges.with_label_values(&[label]);
        for gauge in [&self.received, &self.taken, &self.lag] {
            gauge.with_label_values(&[label, label]);
        }
    }

    /// Shows the held bytes.
    pub(crate) fn held(&self, bytes: usize) {
        self.pending_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows the number of known lanes.
    pub(crate) fn known_lanes(&self, lanes: usize) {
        self.lanes.set(i64::try_from(lanes).unwrap_or(i64::MAX));
    }

    /// Shows the position of a lane that has `waiting` events not inserted yet.
    pub(crate) fn lane(&self, key: LaneKey, state: LaneState, waiting: u64) {
        let (node, lane) = (key.node.to_string(), key.lane.to_string());
        let labels = [node.as_str(), lane.as_str()];
        let shown = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.received
            .with_label_values(&labels)
            .set(shown(state.received));
        self.taken
            .with_label_values(&labels)
            .set(shown(state.taken));
        self.lag.with_label_values(&labels).set(shown(waiting));
    }
}
