//! The salt of visitor ids: a ratchet whose state is replaced at each period, so that the key of an
//! earlier period cannot be computed from anything that is kept.
//!
//! `state(n + 1) = derive(state(n))` and `key(n) = derive(state(n))`, both with BLAKE3's key derivation.
//! Nodes that share one state agree on every later key without exchanging anything.
//!
//! Invariant: no clock and no network code here. The caller decides when a period has ended.
#![forbid(unsafe_code)]

mod file;

pub use file::{SaltFileError, load, save};

use std::fmt;

const NEXT_STATE_CONTEXT: &str = "FanzFiliate edge 2026-12 visitor salt next state v1";
const PERIOD_KEY_CONTEXT: &str = "FanzFiliate edge 2026-12 visitor salt period key v1";

/// The most periods that a ratchet is turned at once: more than a year of days. A clock that claims
/// more is wrong, or the state is so old that a random one serves as well.
pub const MAX_TURNS: u64 = 400;

/// The key under which visitor ids of one period are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeriodKey(pub [u8; 16]);

/// The state of one period, from which the key of this period and all later states follow.
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

/// The keys around one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodKeys {
    /// The length of a period in microseconds.
    pub period_micros: u64,
    /// The number of the period, counted from 1970 in UTC.
    pub period: u64,
    /// The key of the period before; absent when it was never known here.
    pub previous: Option<PeriodKey>,
    /// The key of the period.
    pub current: PeriodKey,
    /// The key of the next period, so that the turn happens at the exact time.
    pub next: PeriodKey,
}

/// What turning a ratchet did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The ratchet is at this period, or at the one after it: clocks of nodes differ a little.
    Unchanged,
    /// It was turned by so many periods.
    Turned(u64),
    /// The period is more than [`MAX_TURNS`] ahead; nothing was changed.
    TooFar(u64),
    /// The ratchet is so many periods ahead, since it was turned by a wrong clock; nothing was changed.
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
    /// The ratchet of a fleet at `period`.
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

    /// The same ratchet, marked as one that no other node knows.
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

    /// Turns to `period`, replacing the states of the periods before it.
    pub fn turn_to(&mut self, period: u64) -> Turn {
        let ahead = self.period.saturating_sub(period);
        if ahead > 1 {
            return Turn::Ahead(ahead);
        }
        let turns = period.saturating_sub(self.period);
        if turns == 0 {
            return Turn::Unchanged;
        }
        if turns > MAX_TURNS {
            return Turn::TooFar(turns);
        }
        for _ in 0..turns {
            self.previous_key = Some(self.state.key());
            self.state = self.state.next();
            self.period += 1;
        }
        Turn::Turned(turns)
    }

    /// The same ratchet with the key of the period before, unless it has one already.
    #[must_use]
    pub const fn with_previous_key(mut self, key: Option<PeriodKey>) -> Self {
        if self.previous_key.is_none() {
            self.previous_key = key;
        }
        self
    }

    /// The keys around the period.
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
    fn ratchets_of_one_state_agree_however_they_turn() {
        let mut stepwise = ratchet(5);
        for period in 6..=20 {
            assert_eq!(stepwise.turn_to(period), Turn::Turned(1));
        }
        let mut at_once = ratchet(5);
        assert_eq!(at_once.turn_to(20), Turn::Turned(15));
        assert_eq!(stepwise, at_once);
        let keys = ratchet(5).keys();
        let mut turned = ratchet(5);
        turned.turn_to(6);
        assert_eq!(turned.keys().previous, Some(keys.current));
        assert_eq!(turned.keys().current, keys.next);
    }

    #[test]
    fn turns_are_bounded_and_never_go_back() {
        let mut turned = ratchet(5);
        assert_eq!(turned.turn_to(4), Turn::Unchanged);
        assert_eq!(turned.turn_to(3), Turn::Ahead(2));
        assert_eq!(turned.turn_to(6 + MAX_TURNS), Turn::TooFar(MAX_TURNS + 1));
        assert_eq!(turned, ratchet(5));
        assert_eq!(turned.turn_to(5 + MAX_TURNS), Turn::Turned(MAX_TURNS));
    }

    #[test]
    fn derivation_is_the_same_in_every_build() {
        // Nodes of different builds must agree.
        let mut turned = ratchet(0);
        turned.turn_to(2);
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(
            (hex(&turned.keys().current.0), hex(&turned.keys().next.0)),
            (
                String::from("a2747a45df14a09b46765dc6fd489c8a"),
                String::from("699f7448a97d09d4321ae6589823f9c3")
            )
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let shown = format!("{:?} {:?}", ratchet(1), ratchet(1).keys());
        assert!(!shown.contains("7, 7") && !shown.contains('['), "{shown}");
    }
}
