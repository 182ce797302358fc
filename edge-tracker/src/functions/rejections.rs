//! The quota of rejections: which of them are logged, and that each is counted.
//!
//! Anyone can make an edge reject reports as fast as it answers. So rejections have a lane and a quota of
//! their own, and never take room that a click or an accepted report needs: while more than half of the
//! quota is used one in so many is logged, and once all of it is used none is.

use event_journal::LaneWriter;
use prometheus::{IntCounter, IntCounterVec};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};
use tracking_events::MAX_EVENT_BYTES;

/// While more than half of the quota is used, one in so many is logged.
const SAMPLED_ONE_IN: u64 = 16;
/// Functions name the reasons: those of more than these are counted together.
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

/// Which rejections are logged, by how much of the lane waits to be shipped.
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
    /// Takes `max_bytes` of the journal for `lane`, which is for rejections alone, and counts in `metric`.
    #[must_use]
    pub fn new(mut lane: LaneWriter, max_bytes: u64, metric: IntCounterVec) -> Self {
        lane.set_quota(max_bytes);
        let mut counters = Counters {
            metric,
            by_reason: HashMap::new(),
        };
        // A counter that is absent until its first event hides the step from 0 to 1 from alerts.
        for reason in postback::Reason::ALL {
            counters.of(reason.name());
        }
        Self {
            lane,
            quota: Quota {
                max_bytes,
                above_half: 0,
                warned: None,
            },
            counters,
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
            self.warn("rejections are counted and not logged, since their quota is used up");
            return false;
        }
        if held_bytes <= self.max_bytes / 2 {
            self.above_half = 0;
            return true;
        }
        self.warn("only some rejections are logged, since half of their quota is used");
        self.above_half += 1;
        self.above_half % SAMPLED_ONE_IN == 1
    }

    fn warn(&mut self, message: &'static str) {
        let now = Instant::now();
        let lately = |last| now.saturating_duration_since(last) < WARN_INTERVAL;
        if !self.warned.is_some_and(lately) {
            self.warned = Some(now);
            tracing::warn!(
                max_bytes = self.max_bytes,
                "{message}; edge_rejections_total has their number, \
                 functions.rejections_max_bytes is the quota"
            );
        }
    }
}

impl Counters {
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
    fn above_half_a_quota_one_in_sixteen_is_logged() {
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
    fn reasons_beyond_a_number_are_counted_together() {
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
