//! Points in time.

use crate::ids::number;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

number! {
    /// Microseconds since 1970-01-01T00:00:00Z, without leap seconds.
    Micros(u64)
}

impl Micros {
    /// The present time of the system clock; a time before 1970 becomes 0.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(whole_micros(since))
    }

    /// Whole milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The time this much later, at most the latest that can be represented.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_micros(duration)))
    }

    /// The time this much earlier, at least 1970.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_micros(duration)))
    }

    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_the_range_stay_at_its_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(Micros(5).saturating_add(second), Micros(1_000_005));
        assert_eq!(Micros(u64::MAX).saturating_add(second), Micros(u64::MAX));
        assert_eq!(Micros(7).saturating_add(Duration::MAX), Micros(u64::MAX));
        assert_eq!(Micros(2_000_000).saturating_sub(second), Micros(1_000_000));
        assert_eq!(Micros(5).saturating_sub(second), Micros(0));
        assert_eq!(Micros(1_000_005).since(Micros(5)), second);
        assert_eq!(Micros(5).since(Micros(6)), Duration::ZERO);
    }
}
