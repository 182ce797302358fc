//! Metrics of the dispatcher of postbacks.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};

const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// All metrics of postbacks; cheap to clone.
#[derive(Clone)]
pub(crate) struct DispatchMetrics {
    attempts: IntCounterVec,
    waiting: IntGaugeVec,
    pub(super) seconds: Histogram,
}

impl DispatchMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let attempts = Opts::new(
            "aggregator_postbacks_total",
            "Attempts to send postbacks, by outcome.",
        );
        let waiting = Opts::new(
            "aggregator_postbacks_waiting",
            "Waiting postbacks: for their click, or to be sent.",
        );
        let seconds = HistogramOpts::new(
            "aggregator_postback_seconds",
            "Time from the look-up of an affiliate's server to the end of its response.",
        );
        let metrics = Self {
            attempts: IntCounterVec::new(attempts, &["outcome"])?,
            waiting: IntGaugeVec::new(waiting, &["state"])?,
            seconds: Histogram::with_opts(seconds.buckets(SECONDS.to_vec()))?,
        };
        for outcome in ["delivered", "refused", "given_up", "unwanted", "again"] {
            metrics.attempts.with_label_values(&[outcome]);
        }
        for state in ["awaits_click", "due"] {
            metrics.waiting.with_label_values(&[state]);
        }
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }

    /// Counts an attempt.
    pub(super) fn ended(&self, outcome: &str) {
        self.attempts.with_label_values(&[outcome]).inc();
    }

    /// Counts postbacks that ended without an attempt.
    pub(super) fn ended_many(&self, outcome: &str, count: u64) {
        self.attempts.with_label_values(&[outcome]).inc_by(count);
    }

    /// Shows the number of postbacks in a state.
    pub(super) fn waiting(&self, state: &str, count: i64) {
        self.waiting.with_label_values(&[state]).set(count);
    }
}
