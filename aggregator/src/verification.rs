//! The second verification of reports: an edge's word is not enough for money. Signed reports are derived again from
//! their signed bytes, by the function's own code; the amounts of unsigned reports are limited for each node.
//!
//! Invariant: no content of a signed request reaches a log, a table or an error.

mod evidence;
mod files;

pub(crate) use evidence::{Evidence, Proof, UnsignedLimits};
pub use files::ReportsError;
pub(crate) use files::mistakes;

use crate::metrics::Maker;
use crate::settings::Reports;
use crate::unproven::UnprovenReason;
use daemon::files::WatchedFiles;
use files::Files;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Verifies reports with the operator's files, which are reloaded when they change.
#[derive(Debug)]
pub(crate) struct Verification {
    files: Arc<Files>,
    unknown_key_wait: Duration,
    state: Mutex<VerificationState>,
    unproven: IntCounterVec,
    reloads: IntCounterVec,
}

#[derive(Debug)]
struct VerificationState {
    watched: WatchedFiles,
    evidence: Arc<Evidence>,
    /// Since when a report waits for an unknown click id key.
    waiting_since: Option<Instant>,
}

/// The number of reports that were set aside, by node and reason.
#[derive(Debug, Default)]
pub(crate) struct UnprovenCounts(BTreeMap<(u16, UnprovenReason), u64>);

impl UnprovenCounts {
    pub(crate) fn add(&mut self, node: u16, reason: UnprovenReason) {
        *self.0.entry((node, reason)).or_default() += 1;
    }
}

/// The metrics of the verification; all exist from the start, with or without `[reports]`.
pub(crate) struct VerificationMetrics {
    verified: IntGauge,
    unproven: IntCounterVec,
    reloads: IntCounterVec,
}

impl VerificationMetrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Maker(registry);
        Ok(Self {
            verified: make.gauge(
                "aggregator_reports_verified",
                "1 when reports are verified again here ([reports]), else 0.",
            )?,
            unproven: make.counters_of(
                "aggregator_reports_unproven_total",
                "Reports that were set aside because they could not be verified, by reason.",
                "reason",
                UnprovenReason::ALL.iter().map(|reason| reason.name()),
            )?,
            reloads: make.counters_of(
                "aggregator_reports_reloads_total",
                "Files of [reports] read again, by outcome.",
                "outcome",
                ["loaded", "refused"],
            )?,
        })
    }
}

impl Verification {
    /// Reads the files that `settings` names. Without settings no report is verified, which is logged and shown as a
    /// metric.
    ///
    /// # Errors
    /// When a file can't be used.
    pub(crate) fn open(
        settings: Option<&Reports>,
        registry: &Registry,
    ) -> Result<Option<Self>, ReportsError> {
        let VerificationMetrics {
            verified,
            unproven,
            reloads,
        } = VerificationMetrics::new(registry)?;
        let Some(settings) = settings else {
            tracing::warn!(
                "reports are not verified again: a stolen certificate of an edge would suffice to invent conversions and \
                 identity checks; name advertisers, secrets, variables and links in [reports]"
            );
            return Ok(None);
        };
        let files = Files::new(settings);
        let watched = files.watch();
        let evidence = Arc::new(files.load()?);
        verified.set(1);
        Ok(Some(Self {
            files: Arc::new(files),
            unknown_key_wait: settings.unknown_key_wait.get().0,
            state: Mutex::new(VerificationState {
                watched,
                evidence,
                waiting_since: None,
            }),
            unproven,
            reloads,
        }))
    }

    /// The present evidence. Changed files are reloaded first; if one is invalid, the evidence stays as it is.
    pub(crate) async fn current(&self) -> Arc<Evidence> {
        if !self.files_changed().await {
            return self.state.lock().evidence.clone();
        }
        let files = self.files.clone();
        let loaded = spawn_blocking(move || files.load()).await;
        let mut state = self.state.lock();
        match loaded.expect("no panic and no cancellation") {
            Ok(evidence) => {
                tracing::info!("reloaded the files of [reports]");
                self.reloads.with_label_values(&["loaded"]).inc();
                state.evidence = Arc::new(evidence);
                state.waiting_since = None;
            }
            Err(error) => {
                tracing::error!(%error, "failed to reload the files of [reports], keeping the active versions");
                self.reloads.with_label_values(&["refused"]).inc();
            }
        }
        state.evidence.clone()
    }

    /// Whether files have changed. While a change is under way, reports wait for its end, at most ten seconds.
    async fn files_changed(&self) -> bool {
        loop {
            let settles_in = {
                let watched = &mut self.state.lock().watched;
                if watched.changed() {
                    return true;
                }
                watched.settles_in()
            };
            match settles_in {
                None => return false,
                Some(rest) => sleep(rest).await,
            }
        }
    }

    /// Whether a report may wait for its click id key, which an edge may send soon. All reports together wait for a
    /// limited time until the files change: a forged key number must not block them permanently.
    pub(crate) fn may_wait(&self) -> bool {
        let now = Instant::now();
        let since = *self.state.lock().waiting_since.get_or_insert(now);
        now.duration_since(since) < self.unknown_key_wait
    }

    /// Counts and logs reports that were set aside.
    pub(crate) fn report(&self, set_aside: &UnprovenCounts) {
        for ((node, reason), reports) in &set_aside.0 {
            let (reason, number) = (reason.name(), reason.number());
            tracing::error!(
                node,
                number,
                reason,
                reports,
                "set aside reports of an edge that could not be verified"
            );
            self.unproven.with_label_values(&[reason]).inc_by(*reports);
        }
    }
}
