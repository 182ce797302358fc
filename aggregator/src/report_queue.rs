//! The queue of report files that are not evaluated yet, in the order of their blocks, with their size and the age of
//! the first.

use crate::blocks::PendingReports;
use domain::Micros;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Shared by the block builder, which adds files, and the evaluation, which removes them.
#[derive(Debug)]
pub(crate) struct ReportQueue {
    state: Mutex<PendingFiles>,
    max_bytes: usize,
    added: Notify,
    removed: Notify,
}

#[derive(Debug, Default)]
struct PendingFiles {
    /// By token, which sorts as the blocks do.
    pending: BTreeMap<String, PendingReports>,
    bytes: usize,
    reports: usize,
}

impl ReportQueue {
    pub(crate) fn new(max_bytes: usize, recovered: Vec<PendingReports>) -> Self {
        let queue = Self {
            state: Mutex::default(),
            max_bytes,
            added: Notify::new(),
            removed: Notify::new(),
        };
        for pending in recovered {
            queue.add(pending);
        }
        queue
    }

    /// Waits until the pending files are below the limit.
    pub(crate) async fn room(&self) {
        loop {
            let removed = self.removed.notified();
            if self.lock().bytes < self.max_bytes {
                return;
            }
            removed.await;
        }
    }

    /// Adds a file. A block that is built again adds nothing.
    pub(crate) fn add(&self, pending: PendingReports) {
        let mut state = self.lock();
        if state.pending.contains_key(&pending.token) {
            return;
        }
        state.bytes += pending.bytes;
        state.reports += pending.reports;
        state.pending.insert(pending.token.clone(), pending);
        drop(state);
        self.added.notify_one();
    }

    /// Waits for a file. It stays the first until it is removed.
    pub(crate) async fn first(&self) -> PendingReports {
        loop {
            let added = self.added.notified();
            if let Some((_, first)) = self.lock().pending.first_key_value() {
                return first.clone();
            }
            added.await;
        }
    }

    pub(crate) fn remove(&self, token: &str) {
        let mut state = self.lock();
        if let Some(removed) = state.pending.remove(token) {
            state.bytes -= removed.bytes;
            state.reports -= removed.reports;
        }
        drop(state);
        self.removed.notify_waiters();
    }

    fn oldest_age(&self) -> Duration {
        let state = self.lock();
        let first = state.pending.values().next();
        let since = first.and_then(PendingReports::since);
        since.map_or(Duration::ZERO, |since| {
            Duration::from_micros(Micros::now().0.saturating_sub(since))
        })
    }

    fn lock(&self) -> MutexGuard<'_, PendingFiles> {
        self.state
            .lock()
            .expect("no thread panics while it holds the queue")
    }
}

/// Shows the present queue when metrics are read.
struct QueueMetrics {
    queue: Arc<ReportQueue>,
    reports: IntGauge,
    bytes: IntGauge,
    oldest: Gauge,
}

/// Registers the queue's metrics.
pub(crate) fn register(queue: &Arc<ReportQueue>, registry: &Registry) -> prometheus::Result<()> {
    let metrics = QueueMetrics {
        queue: Arc::clone(queue),
        reports: IntGauge::new(
            "aggregator_pending_reports",
            "Conversions and identity checks that are not evaluated yet.",
        )?,
        bytes: IntGauge::new(
            "aggregator_pending_report_bytes",
            "Bytes of the files of reports that are not evaluated yet.",
        )?,
        oldest: Gauge::new(
            "aggregator_pending_reports_oldest_seconds",
            "Age of the oldest block whose reports are not evaluated yet; 0 without any.",
        )?,
    };
    registry.register(Box::new(metrics))
}

impl Collector for QueueMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let metrics: [&dyn Collector; 3] = [&self.reports, &self.bytes, &self.oldest];
        metrics.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (reports, bytes) = {
            let state = self.queue.lock();
            (state.reports, state.bytes)
        };
        let shown = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.reports.set(shown(reports));
        self.bytes.set(shown(bytes));
        self.oldest.set(self.queue.oldest_age().as_secs_f64());
        let metrics: [&dyn Collector; 3] = [&self.reports, &self.bytes, &self.oldest];
        metrics.into_iter().flat_map(Collector::collect).collect()
    }
}
