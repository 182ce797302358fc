//! What faults did, as the hands that caused them counted it.

use std::iter::Sum;
use std::ops::AddAssign;

/// The effects of faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Toll {
    /// Processes killed.
    pub(super) kills: u64,
    /// Things done that an operator must be alerted to.
    pub(super) intrusions: u64,
    /// Those of which a metric that operators watch told.
    pub(super) alerts: u64,
    /// Conversions in a state that their sorted reports contradict, and reports without a row.
    pub(super) contradicted: u64,
}

impl Toll {
    pub(super) const fn of_kills(kills: u64) -> Self {
        Self {
            kills,
            intrusions: 0,
            alerts: 0,
            contradicted: 0,
        }
    }

    /// Counts something that must be alerted, and whether it was.
    pub(super) fn intrusion(&mut self, alerted: bool) {
        self.intrusions += 1;
        self.alerts += u64::from(alerted);
    }
}

impl AddAssign for Toll {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.intrusions += other.intrusions;
        self.alerts += other.alerts;
        self.contradicted += other.contradicted;
    }
}

impl Sum for Toll {
    fn sum<I: Iterator<Item = Self>>(tolls: I) -> Self {
        tolls.fold(Self::default(), |mut sum, toll| {
            sum += toll;
            sum
        })
    }
}
