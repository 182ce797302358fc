//! The salt of visitor ids: a one-way ratchet whose state is replaced at each period. The key of an
//! earlier period can't be computed from the kept state.
//!
//! `state(n + 1) = derive(state(n))` and `key(n) = derive(state(n))`, both with BLAKE3's key derivation.
//! Nodes that share one state agree on every later key without exchanging anything.
//!
//! Invariant: no clock and no network code here. The caller decides when a period ends.
#![forbid(unsafe_code)]

mod file;

pub use file::{SaltFileError, load, save};

use std::fmt;

const NEXT_STATE_CONTEXT: &str = "FanzFiliate edge 2026-12 visitor salt next state v1";
const PERIOD_KEY_CONTEXT: &str = "FanzFiliate edge 2026-12 visitor salt period key v1";

/// The maximum number of periods per advance: more than a year of days. Beyond it the clock is wrong, or
/// the state is so old that a random one serves as well.
pub const MAX_ADVANCE_PERIODS: u64 = 400;

/// The key of one period's visitor ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeriodKey(pub [u8; 16]);

/// The state of one period, from which the period's key and all later states are derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaltState(pub [u8; 32]);

/// A ratchet at one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ratchet {
    period_micros: u64,
    period: u64,
    state: SaltState,
    previous_key: Option<PeriodKey>,
    provisional: bool,
}

/// The keys of one period and its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodKeys {
    /// The length of a period in microseconds.
    pub period_micros: u64,
    /// The number of the period, counted from 1970 in UTC.
    pub period: u64,
    /// The key of the previous period; absent when this node never knew it.
    pub previous: Option<PeriodKey>,
    /// The key of the period.
    pub current: PeriodKey,
    /// The key of the next period, so that the switch happens at the exact time.
    pub next: PeriodKey,
}

/// The result of advancing a ratchet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvanceResult {
    /// The ratchet is at this period, or at the next one: clocks of nodes differ a little.
    Unchanged,
    /// The ratchet advanced by this many periods.
    Advanced(u64),
    /// The period is this far ahead, more than [`MAX_ADVANCE_PERIODS`]; nothing changed.
    TooFar(u64),
    /// The ratchet is this many periods ahead, because a wrong clock advanced it; nothing changed.
    Ahead(u64),
}

impl fmt::Debug for PeriodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeriodKey(…)")
    }
}

impl fmt::Debug for SaltState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltState(…)")
    }
}

impl SaltState {
    fn next(&self) -> Self {
        Self(blake3::derive_key(NEXT_STATE_CONTEXT, &self.0))
    }

    fn key(&self) -> PeriodKey {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::derive_key(PERIOD_KEY_CONTEXT, &self.0)[..16]);
        PeriodKey(key)
    }
}

impl Ratchet {
    /// The fleet's ratchet at `period`.
    #[must_use]
    pub const fn new(period_micros: u64, period: u64, state: SaltState) -> Self {
        Self {
            period_micros,
            period,
            state,
            previous_key: None,
            provisional: false,
        }
    }

    /// A ratchet with a random state at `period`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random(period_micros: u64, period: u64) -> std::io::Result<Self> {
        let mut state = [0; 32];
        getrandom::fill(&mut state).map_err(std::io::Error::other)?;
        Ok(Self::new(period_micros, period, SaltState(state)))
    }

    /// Marks the ratchet as provisional: no other node knows its state.
    #[must_use]
    pub const fn provisional(mut self) -> Self {
        self.provisional = true;
        self
    }

    /// Whether no other node knows this state.
    #[must_use]
    pub const fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// The length of a period in microseconds.
    #[must_use]
    pub const fn period_micros(&self) -> u64 {
        self.period_micros
    }

    /// The number of the period.
    #[must_use]
    pub const fn period(&self) -> u64 {
        self.period
    }

    /// The state of the period, for a node of the same fleet.
    #[must_use]
    pub const fn state(&self) -> SaltState {
        self.state
    }

    /// Advances to `period` and replaces the states of earlier periods.
    pub fn advance_to(&mut self, period: u64) -> AdvanceResult {
        let ahead = self.period.saturating_sub(period);
        if ahead > 1 {
            return AdvanceResult::Ahead(ahead);
        }
        let steps = period.saturating_sub(self.period);
        if steps == 0 {
            return AdvanceResult::Unchanged;
        }
        if steps > MAX_ADVANCE_PERIODS {
            return AdvanceResult::TooFar(steps);
        }
        for _ in 0..steps {
            self.previous_key = Some(self.state.key());
            self.state = self.state.next();
            self.period += 1;
        }
        AdvanceResult::Advanced(steps)
    }

    /// Sets the key of the previous period, unless the ratchet has one.
    #[must_use]
    pub const fn with_previous_key(mut self, key: Option<PeriodKey>) -> Self {
        if self.previous_key.is_none() {
            self.previous_key = key;
        }
        self
    }

    /// The keys of the previous, current and next period.
    #[must_use]
    pub fn keys(&self) -> PeriodKeys {
        PeriodKeys {
            period_micros: self.period_micros,
            period: self.period,
            previous: self.previous_key,
            current: self.state.key(),
            next: self.state.next().key(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratchet(period: u64) -> Ratchet {
        Ratchet::new(10, period, SaltState([7; 32]))
    }

    #[test]
    fn ratchets_with_equal_state_agree_for_any_step_size() {
        let mut stepwise = ratchet(5);
        for period in 6..=20 {
            assert_eq!(stepwise.advance_to(period), AdvanceResult::Advanced(1));
        }
        let mut at_once = ratchet(5);
        assert_eq!(at_once.advance_to(20), AdvanceResult::Advanced(15));
        assert_eq!(stepwise, at_once);
        let keys = ratchet(5).keys();
        let mut advanced = ratchet(5);
        advanced.advance_to(6);
        assert_eq!(advanced.keys().previous, Some(keys.current));
        assert_eq!(advanced.keys().current, keys.next);
    }

    #[test]
    fn advance_is_bounded_and_never_goes_back() {
        let mut advanced = ratchet(5);
        assert_eq!(advanced.advance_to(4), AdvanceResult::Unchanged);
        assert_eq!(advanced.advance_to(3), AdvanceResult::Ahead(2));
        assert_eq!(
            advanced.advance_to(6 + MAX_ADVANCE_PERIODS),
            AdvanceResult::TooFar(MAX_ADVANCE_PERIODS + 1)
        );
        assert_eq!(advanced, ratchet(5));
        assert_eq!(
            advanced.advance_to(5 + MAX_ADVANCE_PERIODS),
            AdvanceResult::Advanced(MAX_ADVANCE_PERIODS)
        );
    }

    #[test]
    fn derivation_is_frozen() {
        // Nodes of different builds must agree.
        let mut advanced = ratchet(0);
        advanced.advance_to(2);
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(
            (
                hex(&advanced.keys().current.0),
                hex(&advanced.keys().next.0)
            ),
            (
                String::from("a2747a45df14a09b46765dc6fd489c8a"),
                String::from("699f7448a97d09d4321ae6589823f9c3")
            )
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let output = format!("{:?} {:?}", ratchet(1), ratchet(1).keys());
        assert!(
            !output.contains("7, 7") && !output.contains('['),
            "{output}"
        );
    }
}
