//! Metrics of functions.

use crate::Failure;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Upper bounds of the call duration's buckets: 100 µs to about 3 s.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4,
    0.8, 1.6, 3.2,
];

/// The metric families, labelled by function.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    calls: IntCounterVec,
    errors: IntCounterVec,
    cold_starts: IntCounterVec,
    seconds: HistogramVec,
    running: IntGaugeVec,
}

/// The metrics of one function.
#[derive(Debug, Clone)]
pub(crate) struct FunctionMetrics {
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
                Opts::new("function_calls_total", "Calls of functions."),
                function,
            )?,
            errors: IntCounterVec::new(
                Opts::new("function_errors_total", "Failed calls, by reason."),
                &["function", "reason"],
            )?,
            cold_starts: IntCounterVec::new(
                Opts::new(
                    "function_cold_starts_total",
                    "Instances created for a call.",
                ),
                function,
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "function_seconds",
                    "Time from the start of a call to the head of its response.",
                )
                .buckets(SECONDS_BUCKETS.to_vec()),
                function,
            )?,
            running: IntGaugeVec::new(
                Opts::new("functions_running", "Calls in progress."),
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

    pub(crate) fn of_function(&self, function: &str) -> FunctionMetrics {
        let labels = &[function];
        // Every series exists from the start: alerts do not see the step to 1 of a series that is created with it.
        for failure in Failure::ALL {
            self.errors.with_label_values(&[function, failure.name()]);
        }
        FunctionMetrics {
            calls: self.calls.with_label_values(labels),
            cold_starts: self.cold_starts.with_label_values(labels),
            seconds: self.seconds.with_label_values(labels),
            running: self.running.with_label_values(labels),
            errors: self.errors.clone(),
            name: function.into(),
        }
    }
}

/// Registers all metrics, with the series of one `function`, so that they can be listed.
///
/// # Errors
/// When the registry already has metrics of these names.
pub fn describe(registry: &Registry, function: &str) -> Result<(), prometheus::Error> {
    Metrics::new(registry)?.of_function(function);
    Ok(())
}

impl FunctionMetrics {
    pub(crate) fn count_failure(&self, failure: Failure) {
        let labels = [self.name.as_str(), failure.name()];
        self.errors.with_label_values(&labels).inc();
    }
}
