//! Growing pauses between attempts that fail.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// The rule for the pauses between attempts: each is a multiple of the one before, up to a limit.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: u32,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// A rule whose pauses double.
    #[must_use]
    pub const fn doubling(first: Duration, max: Duration) -> Self {
        let factor = 2;
        Self { first, factor, max }
    }

    /// The pause after this many failures in a row.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let factor = self.factor.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.max)
    }

    /// The pause, lengthened by up to a fifth of it. `seed` decides by how much: attempts that failed together and have
    /// different seeds are not repeated together.
    #[must_use]
    pub fn spread_pause(&self, failures: u32, seed: &str) -> Duration {
        let mut hasher = DefaultHasher::new();
        (seed, failures).hash(&mut hasher);
        let draw = hasher.finish() % 256;
        let pause = self.pause(failures);
        pause + pause * (draw as u32) / (5 * 256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn pauses_grow_up_to_the_maximum() {
        let doubling = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
        let millis: Vec<_> = (0..9).map(|it| doubling.pause(it).as_millis()).collect();
        assert_eq!(
            millis,
            [100, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
        );
        assert_eq!(doubling.pause(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn spread_pauses_differ_by_up_to_a_fifth() {
        let first = Duration::from_secs(10);
        let backoff = Backoff {
            first,
            factor: 3,
            max: HOUR,
        };
        for (failures, least) in [
            (1, 10),
            (2, 30),
            (3, 90),
            (6, 2_430),
            (7, 3_600),
            (90, 3_600),
        ] {
            let least = Duration::from_secs(least);
            let pause = backoff.spread_pause(failures, "a");
            assert!(
                (least..least + least / 5).contains(&pause),
                "{failures}: {pause:?}"
            );
            assert_eq!(pause, backoff.spread_pause(failures, "a"));
        }
        assert_ne!(backoff.spread_pause(1, "a"), backoff.spread_pause(1, "b"));
    }
}
