//! What operators see of functions.

use crate::Failure;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// From 100 µs to about 3 s.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4,
    0.8, 1.6, 3.2,
];

/// Counters of all functions, by function.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) calls: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) cold_starts: IntCounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) running: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let function = &["function"];
        let metrics = Self {
            calls: IntCounterVec::new(
                Opts::new("function_calls_total", "Calls of functions"),
                function,
            )?,
            errors: IntCounterVec::new(
                Opts::new("function_errors_total", "Calls that failed, by reason"),
                &["function", "reason"],
            )?,
            cold_starts: IntCounterVec::new(
                Opts::new("function_cold_starts_total", "Instances made for a call"),
                function,
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "function_seconds",
                    "From the call to the head of the answer",
                )
                .buckets(BUCKETS.to_vec()),
                function,
            )?,
            running: IntGaugeVec::new(
                Opts::new("functions_running", "Calls being answered"),
                function,
            )?,
        };
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.cold_starts.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn failed(&self, function: &str, failure: Failure) {
        let labels = [function, failure.name()];
        self.errors.with_label_values(&labels).inc();
    }
}
