//! Counts of the effects of injected faults.

use std::iter::Sum;
use std::ops::AddAssign;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FaultCounts {
    /// Killed processes.
    pub(super) kills: u64,
    /// Faults that must alert an operator.
    pub(super) intrusions: u64,
    /// Faults of these that raised a metric which operators watch.
    pub(super) alerts: u64,
    /// Conversions that differ from the result of their sorted reports, and reports without a row.
    pub(super) contradicted: u64,
}

impl FaultCounts {
    pub(super) const fn with_kills(kills: u64) -> Self {
        Self {
            kills,
            intrusions: 0,
            alerts: 0,
            contradicted: 0,
        }
    }

    /// Counts a fault that must be alerted, and whether it was.
    pub(super) fn count_intrusion(&mut self, alerted: bool) {
        self.intrusions += 1;
        self.alerts += u64::from(alerted);
    }
}

impl AddAssign for FaultCounts {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.intrusions += other.intrusions;
        self.alerts += other.alerts;
        self.contradicted += other.contradicted;
    }
}

impl Sum for FaultCounts {
    fn sum<I: Iterator<Item = Self>>(tolls: I) -> Self {
        tolls.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}
