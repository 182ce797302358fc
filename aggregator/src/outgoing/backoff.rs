//! Pauses between attempts: growing, and spread so that attempts are not repeated all at once.

use std::time::Duration;

const FACTOR: u32 = 3;
const LONGEST: Duration = Duration::from_secs(3_600);

/// The pause after `failed` attempts; it starts with `first`. `seed` spreads attempts that failed together over a fifth
/// of the pause.
pub(super) fn pause(first: Duration, failed: u32, seed: &str) -> Duration {
    let factor = FACTOR.saturating_pow(failed.saturating_sub(1));
    let pause = first.saturating_mul(factor).min(LONGEST);
    let draw = blake3::hash(format!("{seed} {failed}").as_bytes()).as_bytes()[0];
    pause + pause * u32::from(draw) / (5 * 256)
}

/// The pause before the next search for a click that was not found for `waited`.
pub(crate) fn next_search(waited: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(1);
    (waited / 2).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_spread() {
        let first = Duration::from_secs(10);
        for (failed, least) in [
            (1, 10),
            (2, 30),
            (3, 90),
            (6, 2_430),
            (7, 3_600),
            (90, 3_600),
        ] {
            let least = Duration::from_secs(least);
            let pause = pause(first, failed, "a");
            assert!(
                (least..least + least / 5).contains(&pause),
                "{failed}: {pause:?}"
            );
        }
        assert_ne!(pause(first, 1, "a"), pause(first, 1, "b"));
    }
}
