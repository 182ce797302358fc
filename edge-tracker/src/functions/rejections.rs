//! The quota of rejections: each is counted, and the quota decides which are logged.
//!
//! Any client can make an edge reject reports as fast as it responds. So rejections have their own lane and quota, and
//! never use space that clicks or accepted reports need: above half of the quota only a sample is logged, and above
//! the quota none is.

use event_journal::LaneWriter;
use prometheus::{IntCounter, IntCounterVec};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};
use tracking_events::MAX_EVENT_BYTES;

/// Above half of the quota, one in this many is logged.
const SAMPLE_INTERVAL: u64 = 16;
/// Functions define the reasons: reasons beyond this number are counted together.
const MAX_REASONS: usize = 128;
const OTHER_REASONS: &str = "other";
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// The lane of rejections.
#[derive(Debug)]
pub struct RejectionLane {
    pub(super) lane: LaneWriter,
    quota: Quota,
    counters: Counters,
}

/// Decides which rejections are logged, by the bytes of the lane that are not shipped yet.
#[derive(Debug)]
struct Quota {
    max_bytes: u64,
    /// Rejections since more than half was used.
    above_half: u64,
    warned: Option<Instant>,
}

struct Counters {
    metric: IntCounterVec,
    /// Logged and not logged, by reason.
    by_reason: HashMap<String, [IntCounter; 2]>,
}

impl RejectionLane {
    /// Reserves `max_bytes` of the journal for `lane`, which holds only rejections, and counts in `metric`.
    #[must_use]
    pub fn new(mut lane: LaneWriter, max_bytes: u64, metric: IntCounterVec) -> Self {
        lane.set_quota(max_bytes);
        Self {
            lane,
            quota: Quota {
                max_bytes,
                above_half: 0,
                warned: None,
            },
            counters: Counters::start(metric),
        }
    }

    /// Whether the next rejection is to be logged.
    pub(super) fn admits(&mut self) -> bool {
        self.quota.admits(self.lane.unreleased_bytes())
    }

    /// Counts a rejection.
    pub(super) fn count(&mut self, reason: &str, is_logged: bool) {
        self.counters.of(reason)[usize::from(!is_logged)].inc();
    }
}

impl Quota {
    fn admits(&mut self, held_bytes: u64) -> bool {
        if held_bytes + MAX_EVENT_BYTES as u64 > self.max_bytes {
            self.warn("rejections are counted but not logged: their quota is used up");
            return false;
        }
        if held_bytes <= self.max_bytes / 2 {
            self.above_half = 0;
            return true;
        }
        self.warn("only some rejections are logged: half of their quota is used");
        self.above_half += 1;
        self.above_half % SAMPLE_INTERVAL == 1
    }

    fn warn(&mut self, message: &'static str) {
        let now = Instant::now();
        let recently = |last| now.saturating_duration_since(last) < WARN_INTERVAL;
        if !self.warned.is_some_and(recently) {
            self.warned = Some(now);
            tracing::warn!(
                max_bytes = self.max_bytes,
                "{message}; see edge_rejections_total, or raise functions.rejections_max_bytes"
            );
        }
    }
}

/// Creates the series of all known reasons.
pub(crate) fn start_series(metric: &IntCounterVec) {
    Counters::start(metric.clone());
}

impl Counters {
    /// Creates all series: a counter that is absent until its first event hides the step from 0 to 1 from alerts.
    fn start(metric: IntCounterVec) -> Self {
        let mut counters = Self {
            metric,
            by_reason: HashMap::new(),
        };
        for reason in postback::Reason::ALL {
            counters.of(reason.name());
        }
        counters
    }

    fn of(&mut self, reason: &str) -> &[IntCounter; 2] {
        let has_room = self.by_reason.len() < MAX_REASONS;
        let reason = if has_room || self.by_reason.contains_key(reason) {
            reason
        } else {
            OTHER_REASONS
        };
        let metric = &self.metric;
        self.by_reason.entry(reason.to_owned()).or_insert_with(|| {
            ["logged", "not_logged"].map(|outcome| metric.with_label_values(&[reason, outcome]))
        })
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_sixteen_is_logged_above_half_a_quota() {
        let max_bytes = 100 * MAX_EVENT_BYTES as u64;
        let mut quota = Quota {
            max_bytes,
            above_half: 0,
            warned: None,
        };
        let mut admitted = |held: u64| (0..160).filter(|_| quota.admits(held)).count();
        assert_eq!(admitted(max_bytes / 2), 160);
        assert_eq!(admitted(max_bytes / 2 + 1), 10);
        assert_eq!(admitted(max_bytes), 0);
        assert_eq!(admitted(0), 160);
    }

    #[test]
    fn reasons_beyond_the_limit_are_counted_together() {
        let options = prometheus::Opts::new("rejections", "Rejections");
        let metric = IntCounterVec::new(options, &["reason", "outcome"]).expect("valid");
        let mut counters = Counters {
            metric: metric.clone(),
            by_reason: HashMap::new(),
        };
        for number in 0..1_000 {
            counters.of(&number.to_string())[1].inc();
        }
        counters.of("7")[0].inc();
        let count = |reason: &str, outcome| metric.with_label_values(&[reason, outcome]).get();
        assert_eq!((count("7", "logged"), count("7", "not_logged")), (1, 1));
        assert_eq!(
            count(OTHER_REASONS, "not_logged"),
            1_000 - MAX_REASONS as u64
        );
    }
}
