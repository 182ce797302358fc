//! Which generation a time belongs to, while the system's clock may step either way.
//!
//! Numbers in, numbers out; reading a clock never belongs here.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tracking_events::Micros;

/// Where a visit stands among the generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The generation of the visit.
    pub(super) index: u64,
    /// The newest generation there is.
    pub(super) newest: u64,
    /// The oldest generation that still counts.
    pub(super) oldest: u64,
    span: u64,
    offset: u64,
}

impl Moment {
    /// The generation of another time of the same clock.
    pub(super) fn shift(&self, time: Micros) -> u64 {
        time.0 / self.span + self.offset
    }

    /// When a generation began, by the clock of the visits.
    pub(super) fn start_of(&self, index: u64, span: u64) -> Micros {
        Micros(index.saturating_sub(self.offset).saturating_mul(span))
    }
}

/// Numbers generations so that no step of the clock empties the filters or stops their rotation.
///
/// A step back within the window is harmless: the generations of that time are still there. After
/// one beyond it all generations lie in what is now the future; were they kept under their numbers,
/// the newest would take every visit until that future has come. So the clock is read with an
/// offset that makes its present the newest generation, until it comes back within the window.
#[derive(Debug)]
pub(super) struct Clock {
    span: u64,
    generations: u64,
    newest: AtomicU64,
    offset: AtomicU64,
    stepping: Mutex<()>,
}

impl Clock {
    /// Generations of `span` microseconds, of which `generations` count beside the newest.
    pub(super) fn new(span: u64, generations: u64) -> Self {
        Self {
            span,
            generations,
            newest: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            stepping: Mutex::new(()),
        }
    }

    /// The moment of a visit now; the newest generation moves on with it.
    pub(super) fn observe(&self, now: Micros) -> Moment {
        let raw = now.0 / self.span;
        let offset = self.offset.load(Ordering::Relaxed);
        let newest = self.newest.load(Ordering::Relaxed);
        let index = raw + offset;
        if offset == 0 && index <= newest && newest - index <= self.generations {
            return self.moment(index, newest, offset);
        }
        self.step(raw)
    }

    /// The moment of a visit in the past; none when it no longer counts. Never moves anything.
    pub(super) fn recall(&self, time: Micros) -> Option<Moment> {
        let newest = self.newest.load(Ordering::Relaxed);
        let offset = self.offset.load(Ordering::Relaxed);
        let moment = self.moment((time.0 / self.span + offset).min(newest), newest, offset);
        (moment.index >= moment.oldest).then_some(moment)
    }

    /// The beginning of what [`Clock::observe`] saw last.
    pub(super) fn newest(&self) -> Moment {
        let newest = self.newest.load(Ordering::Relaxed);
        self.moment(newest, newest, self.offset.load(Ordering::Relaxed))
    }

    /// Lets generations up to `index` count, as after a restart.
    pub(super) fn resume(&self, index: u64) {
        self.newest.fetch_max(index, Ordering::Relaxed);
    }

    fn step(&self, raw: u64) -> Moment {
        let _one_at_a_time = super::lock(&self.stepping);
        let newest = self.newest.load(Ordering::Relaxed);
        let mut offset = self.offset.load(Ordering::Relaxed);
        if raw.saturating_add(self.generations) >= newest {
            offset = 0;
        } else if (raw + offset).saturating_add(self.generations) < newest {
            tracing::warn!(
                "the clock went back by more than the window of unique visits; they stay known"
            );
            offset = newest - raw;
        }
        let index = raw + offset;
        let newest = newest.max(index);
        self.offset.store(offset, Ordering::Relaxed);
        self.newest.store(newest, Ordering::Relaxed);
        self.moment(index, newest, offset)
    }

    fn moment(&self, index: u64, newest: u64, offset: u64) -> Moment {
        let oldest = newest.saturating_sub(self.generations);
        Moment {
            index,
            newest,
            oldest,
            span: self.span,
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(clock: &Clock, raw: u64) -> (u64, u64) {
        let moment = clock.observe(Micros(raw * 10 + 3));
        (moment.index, moment.newest)
    }

    #[test]
    fn small_steps_back_keep_their_own_generations() {
        let clock = Clock::new(10, 4);
        assert_eq!(seen(&clock, 100), (100, 100));
        assert_eq!(seen(&clock, 101), (101, 101));
        assert_eq!(seen(&clock, 97), (97, 101));
        assert_eq!(seen(&clock, 102), (102, 102));
    }

    #[test]
    fn a_large_step_back_goes_on_from_the_newest_and_returns_without_a_jump() {
        let clock = Clock::new(10, 4);
        assert_eq!(seen(&clock, 1000), (1000, 1000));
        assert_eq!(seen(&clock, 0), (1000, 1000));
        assert_eq!(seen(&clock, 3), (1003, 1003));
        assert_eq!(seen(&clock, 1), (1001, 1003));
        assert_eq!(seen(&clock, 1002), (1002, 1003));
        assert_eq!(seen(&clock, 1004), (1004, 1004));
    }

    #[test]
    fn after_a_wrong_future_generations_still_rotate() {
        let clock = Clock::new(10, 4);
        seen(&clock, 100);
        seen(&clock, 9000);
        assert_eq!(seen(&clock, 101), (9000, 9000));
        assert_eq!(seen(&clock, 105), (9004, 9004));
    }

    #[test]
    fn the_past_is_recalled_within_the_window() {
        let clock = Clock::new(10, 4);
        seen(&clock, 100);
        let index = |raw: u64| clock.recall(Micros(raw * 10)).map(|moment| moment.index);
        assert_eq!(index(95), None);
        assert_eq!(index(96), Some(96));
        assert_eq!(index(500), Some(100));
        assert_eq!(clock.newest().newest, 100);
    }
}
