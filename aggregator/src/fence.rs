//! Decides which spool may insert blocks. A spool that another one has superseded must not: edges sent its events to
//! the other one again.

use crate::history::SpoolClaim;

/// The state of a spool, from its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpoolState {
    /// The spool's random id.
    pub(crate) spool: u64,
    /// The generation that it claimed last, or 0.
    pub(crate) generation: u64,
    /// Whether an earlier run left blocks in it.
    pub(crate) has_blocks: bool,
}

/// The result of comparing a spool with the newest claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The newest claim is this spool's.
    Keep,
    /// This spool must claim this generation.
    Claim(u64),
    /// Another spool made the newest claim, after this one's.
    Superseded(SpoolClaim),
}

pub(crate) fn decide(state: SpoolState, latest: Option<SpoolClaim>) -> Decision {
    match latest {
        None => Decision::Claim(state.generation.max(1)),
        Some(latest) if latest.spool == state.spool => Decision::Keep,
        // The claim was saved, but the process ended before ClickHouse had it.
        Some(latest) if state.generation > latest.generation => Decision::Claim(state.generation),
        // A new spool that has accepted nothing takes over.
        Some(latest) if state.generation == 0 && !state.has_blocks => {
            Decision::Claim(latest.generation.saturating_add(1))
        }
        Some(latest) => Decision::Superseded(latest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn state(generation: u64, has_blocks: bool) -> SpoolState {
        SpoolState {
            spool: 7,
            generation,
            has_blocks,
        }
    }

    const fn claim(generation: u64, spool: u64) -> Option<SpoolClaim> {
        Some(SpoolClaim { generation, spool })
    }

    #[test]
    fn first_spool_claims_first_generation() {
        assert_eq!(decide(state(0, false), None), Decision::Claim(1));
        assert_eq!(decide(state(0, true), None), Decision::Claim(1));
        // ClickHouse lost its data.
        assert_eq!(decide(state(5, true), None), Decision::Claim(5));
    }

    #[test]
    fn restarted_spool_keeps_its_claim() {
        assert_eq!(decide(state(3, true), claim(3, 7)), Decision::Keep);
        // ClickHouse had the claim, but the process ended before it was saved.
        assert_eq!(decide(state(0, true), claim(1, 7)), Decision::Keep);
    }

    #[test]
    fn empty_new_spool_takes_over() {
        assert_eq!(decide(state(0, false), claim(3, 8)), Decision::Claim(4));
        // The process ended before ClickHouse had the claim.
        assert_eq!(decide(state(4, true), claim(3, 8)), Decision::Claim(4));
    }

    #[test]
    fn old_spool_that_returns_is_superseded() {
        let newer = SpoolClaim {
            generation: 4,
            spool: 8,
        };
        for (generation, has_blocks) in [(3, true), (3, false), (4, true), (0, true)] {
            assert_eq!(
                decide(state(generation, has_blocks), Some(newer)),
                Decision::Superseded(newer)
            );
        }
    }
}
