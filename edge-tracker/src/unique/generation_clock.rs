//! Maps times to generations, although the system clock may be set forward or back.
//!
//! A pure function of numbers; reading a clock never belongs here.

use domain::Micros;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The position of a visit among the generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GenerationPosition {
    /// The generation of the visit.
    pub(super) index: u64,
    /// The newest generation.
    pub(super) newest: u64,
    /// The oldest generation that still counts.
    pub(super) oldest: u64,
    span: u64,
    offset: u64,
}

impl GenerationPosition {
    /// The generation of another time of the same clock.
    pub(super) fn shift(&self, time: Micros) -> u64 {
        time.0 / self.span + self.offset
    }

    /// The start of a generation, by the clock of the visits.
    pub(super) fn start_of(&self, index: u64, span: u64) -> Micros {
        Micros(index.saturating_sub(self.offset).saturating_mul(span))
    }
}

/// Numbers generations so that no step of the clock empties the filters or stops their rotation.
///
/// A step back within the window is harmless: the generations of that time still exist. After a longer step back,
/// all generations lie in the future; with unchanged numbers the newest would receive every visit until that time
/// has come. So an offset makes the present the newest generation, until the clock is back within the window.
#[derive(Debug)]
pub(super) struct GenerationClock {
    span: u64,
    generations: u64,
    newest: AtomicU64,
    offset: AtomicU64,
    stepping: Mutex<()>,
}

impl GenerationClock {
    /// Generations of `span` microseconds, of which `generations` count in addition to the newest.
    pub(super) fn new(span: u64, generations: u64) -> Self {
        Self {
            span,
            generations,
            newest: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            stepping: Mutex::new(()),
        }
    }

    /// The moment of a visit now; advances the newest generation.
    pub(super) fn observe(&self, now: Micros) -> GenerationPosition {
        let raw = now.0 / self.span;
        let offset = self.offset.load(Ordering::Relaxed);
        let newest = self.newest.load(Ordering::Relaxed);
        let index = raw + offset;
        if offset == 0 && index <= newest && newest - index <= self.generations {
            return self.moment(index, newest, offset);
        }
        self.step(raw)
    }

    /// The moment of a visit in the past; none when it no longer counts. Changes nothing.
    pub(super) fn recall(&self, time: Micros) -> Option<GenerationPosition> {
        let newest = self.newest.load(Ordering::Relaxed);
        let offset = self.offset.load(Ordering::Relaxed);
        let moment = self.moment((time.0 / self.span + offset).min(newest), newest, offset);
        (moment.index >= moment.oldest).then_some(moment)
    }

    /// The moment that [`GenerationClock::observe`] returned last.
    pub(super) fn newest(&self) -> GenerationPosition {
        let newest = self.newest.load(Ordering::Relaxed);
        self.moment(newest, newest, self.offset.load(Ordering::Relaxed))
    }

    /// Resumes at generation `index`, as after a restart.
    pub(super) fn resume(&self, index: u64) {
        self.newest.fetch_max(index, Ordering::Relaxed);
    }

    fn step(&self, raw: u64) -> GenerationPosition {
        let _guard = self.stepping.lock();
        let newest = self.newest.load(Ordering::Relaxed);
        let mut offset = self.offset.load(Ordering::Relaxed);
        if raw.saturating_add(self.generations) >= newest {
            offset = 0;
        } else if (raw + offset).saturating_add(self.generations) < newest {
            tracing::warn!(
                "the clock was set back by more than unique.window; known visits are kept"
            );
            offset = newest - raw;
        }
        let index = raw + offset;
        let newest = newest.max(index);
        self.offset.store(offset, Ordering::Relaxed);
        self.newest.store(newest, Ordering::Relaxed);
        self.moment(index, newest, offset)
    }

    fn moment(&self, index: u64, newest: u64, offset: u64) -> GenerationPosition {
        let oldest = newest.saturating_sub(self.generations);
        GenerationPosition {
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

    fn seen(clock: &GenerationClock, raw: u64) -> (u64, u64) {
        let moment = clock.observe(Micros(raw * 10 + 3));
        (moment.index, moment.newest)
    }

    #[test]
    fn small_step_back_keeps_its_generations() {
        let clock = GenerationClock::new(10, 4);
        assert_eq!(seen(&clock, 100), (100, 100));
        assert_eq!(seen(&clock, 101), (101, 101));
        assert_eq!(seen(&clock, 97), (97, 101));
        assert_eq!(seen(&clock, 102), (102, 102));
    }

    #[test]
    fn large_step_back_continues_from_the_newest_generation() {
        let clock = GenerationClock::new(10, 4);
        assert_eq!(seen(&clock, 1000), (1000, 1000));
        assert_eq!(seen(&clock, 0), (1000, 1000));
        assert_eq!(seen(&clock, 3), (1003, 1003));
        assert_eq!(seen(&clock, 1), (1001, 1003));
        assert_eq!(seen(&clock, 1002), (1002, 1003));
        assert_eq!(seen(&clock, 1004), (1004, 1004));
    }

    #[test]
    fn generations_rotate_after_a_wrong_future() {
        let clock = GenerationClock::new(10, 4);
        seen(&clock, 100);
        seen(&clock, 9000);
        assert_eq!(seen(&clock, 101), (9000, 9000));
        assert_eq!(seen(&clock, 105), (9004, 9004));
    }

    #[test]
    fn past_is_recalled_within_the_window() {
        let clock = GenerationClock::new(10, 4);
        seen(&clock, 100);
        let index = |raw: u64| clock.recall(Micros(raw * 10)).map(|moment| moment.index);
        assert_eq!(index(95), None);
        assert_eq!(index(96), Some(96));
        assert_eq!(index(500), Some(100));
        assert_eq!(clock.newest().newest, 100);
    }
}
