//! Which spool of an aggregator may insert blocks. One that another has taken over must not: edges sent the
//! other one again what it has left.

use crate::history::SpoolClaim;

/// A spool as its directory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpoolState {
    /// Its random id.
    pub(crate) spool: u64,
    /// The generation that it claimed last; 0 before it has.
    pub(crate) generation: u64,
    /// Whether an earlier run left blocks.
    pub(crate) has_blocks: bool,
}

/// What follows from a spool's state and the newest claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The newest claim is its own.
    Keep,
    /// It is to claim this generation.
    Claim(u64),
    /// The newest claim is another spool's, made after its own.
    Superseded(SpoolClaim),
}

pub(crate) fn decide(state: SpoolState, latest: Option<SpoolClaim>) -> Decision {
    match latest {
        None => Decision::Claim(state.generation.max(1)),
        Some(latest) if latest.spool == state.spool => Decision::Keep,
        // It wrote its claim down and was stopped before ClickHouse had it.
        Some(latest) if state.generation > latest.generation => Decision::Claim(state.generation),
        // New, and nothing was accepted into it yet: it takes over.
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
        // The claim was made and not written down.
        assert_eq!(decide(state(0, true), claim(1, 7)), Decision::Keep);
    }

    #[test]
    fn empty_new_spool_takes_over() {
        assert_eq!(decide(state(0, false), claim(3, 8)), Decision::Claim(4));
        // It was stopped before ClickHouse had the claim.
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
