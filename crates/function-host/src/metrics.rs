//! What operators see of functions.

use crate::Failure;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// From 100 µs to about 3 s.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4,
    0.8, 1.6, 3.2,
];

/// Counters of all functions, by function.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    calls: IntCounterVec,
    errors: IntCounterVec,
    cold_starts: IntCounterVec,
    seconds: HistogramVec,
    running: IntGaugeVec,
}

/// Those of one function.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) calls: IntCounter,
    pub(crate) cold_starts: IntCounter,
    pub(crate) seconds: Histogram,
    pub(crate) running: IntGauge,
    errors: IntCounterVec,
    name: String,
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

    pub(crate) fn of(&self, function: &str) -> Counted {
        let labels = &[function];
        // A counter that is absent until its first event hides the step from 0 to 1 from alerts.
        for failure in Failure::ALL {
            self.errors.with_label_values(&[function, failure.name()]);
        }
        Counted {
            calls: self.calls.with_label_values(labels),
            cold_starts: self.cold_starts.with_label_values(labels),
            seconds: self.seconds.with_label_values(labels),
            running: self.running.with_label_values(labels),
            errors: self.errors.clone(),
            name: function.into(),
        }
    }
}

impl Counted {
    pub(crate) fn failed(&self, failure: Failure) {
        let labels = [self.name.as_str(), failure.name()];
        self.errors.with_label_values(&labels).inc();
    }
}
