//! When a step of the system clock is accepted: numbers in, numbers out.

use crate::{SystemTimes, TrustedClock, bounds, signed};
use std::fmt;
use tracking_events::Micros;

/// What is known beside the anchor. Offsets lead from the time since the boot to the time of day.
#[derive(Debug, Default)]
pub(crate) struct Supervision {
    step: Option<Step>,
    authority: Option<Authority>,
}

/// A system clock that is not followed.
#[derive(Debug, Clone, Copy)]
struct Step {
    offset: i64,
    /// Since when it goes by this offset.
    since_boot: i64,
}

/// The time of another node.
#[derive(Debug, Clone, Copy)]
struct Authority {
    offset: i64,
    learned_at: i64,
}

/// What has changed; its text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The system clock was set by so many microseconds and is not followed.
    Stepped(i64),
    /// It shows a time outside the bounds.
    OutOfBounds(Micros),
    /// It agrees with the elapsed time again.
    AgreesAgain,
    /// A step of so many microseconds is accepted.
    StepAccepted(i64),
    /// There was no trusted time, and now there is.
    Anchored,
}

impl Change {
    /// The word for it in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stepped(_) => "stepped",
            Self::OutOfBounds(_) => "out_of_bounds",
            Self::AgreesAgain => "agrees_again",
            Self::StepAccepted(_) => "step_accepted",
            Self::Anchored => "anchored",
        }
    }

    /// Whether it is a fault rather than the end of one.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Stepped(_) | Self::OutOfBounds(_))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stepped(by) => {
                let seconds = *by as f64 / 1e6;
                write!(
                    f,
                    "the system clock was set by {seconds:.1} s and is not followed"
                )
            }
            Self::OutOfBounds(time) => {
                let (time, range) = (bounds::shown(*time), bounds::shown_range());
                write!(
                    f,
                    "the system clock shows {time}, outside {range}, and is not followed"
                )
            }
            Self::AgreesAgain => f.write_str("the system clock agrees with the elapsed time again"),
            Self::StepAccepted(by) => {
                let seconds = *by as f64 / 1e6;
                write!(
                    f,
                    "a step of the system clock by {seconds:.1} s is accepted"
                )
            }
            Self::Anchored => f.write_str("there is a trusted time now"),
        }
    }
}

impl Supervision {
    pub(crate) fn supervise(&mut self, clock: &TrustedClock, times: SystemTimes) -> Option<Change> {
        let is_possible = bounds::contain(times.wall);
        let offset = times.wall_offset();
        let Some(anchor) = clock.anchor() else {
            if is_possible {
                clock.set_anchor(offset);
                self.step = None;
                return Some(Change::Anchored);
            }
            return self
                .note(clock, times)
                .map(|()| Change::OutOfBounds(times.wall));
        };
        if is_possible && clock.is_within_step(offset, anchor) {
            clock.set_anchor(offset);
            return self.step.take().map(|_| Change::AgreesAgain);
        }
        let is_new = self.note(clock, times);
        if is_possible && self.accepts(clock, times) {
            clock.set_anchor(offset);
            self.step = None;
            return Some(Change::StepAccepted(offset.saturating_sub(anchor)));
        }
        is_new.map(|()| match is_possible {
            true => Change::Stepped(offset.saturating_sub(anchor)),
            false => Change::OutOfBounds(times.wall),
        })
    }

    pub(crate) fn learn(
        &mut self,
        clock: &TrustedClock,
        time: Micros,
        times: SystemTimes,
    ) -> Option<Change> {
        if !bounds::contain(time) {
            return None;
        }
        let offset = signed(time).saturating_sub(times.since_boot);
        self.authority = Some(Authority {
            offset,
            learned_at: times.since_boot,
        });
        if clock.anchor().is_none() && !bounds::contain(times.wall) {
            clock.set_anchor(offset);
            return Some(Change::Anchored);
        }
        self.supervise(clock, times)
    }

    /// Remembers since when the system clock goes by its offset; says so when that is new.
    fn note(&mut self, clock: &TrustedClock, times: SystemTimes) -> Option<()> {
        let offset = times.wall_offset();
        if self
            .step
            .is_some_and(|step| clock.is_within_step(offset, step.offset))
        {
            return None;
        }
        self.step = Some(Step {
            offset,
            since_boot: times.since_boot,
        });
        Some(())
    }

    fn accepts(&self, clock: &TrustedClock, times: SystemTimes) -> bool {
        let Some(step) = self.step else {
            return false;
        };
        if let Some(authority) = self.authority {
            if clock.is_within_step(times.wall_offset(), authority.offset) {
                return true;
            }
            // What was learned before the step says nothing of it: the machine may have stood still.
            if authority.learned_at >= step.since_boot {
                return false;
            }
        }
        let steady = times.since_boot.saturating_sub(step.since_boot);
        u128::from(steady.unsigned_abs()) >= clock.tolerance.accept_step_after.as_micros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EARLIEST, LATEST, Tolerance, Trust};

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;
    /// The time of day when the machine was booted.
    const BOOT: i64 = EARLIEST.0 as i64 + 1_000 * HOUR;

    fn times(since_boot: i64, ahead: i64) -> SystemTimes {
        SystemTimes {
            wall: Micros((BOOT + since_boot + ahead) as u64),
            since_boot,
        }
    }

    fn true_time(since_boot: i64) -> Micros {
        times(since_boot, 0).wall
    }

    fn clock() -> TrustedClock {
        TrustedClock::at(Tolerance::default(), EARLIEST, times(HOUR, 0))
    }

    #[test]
    fn small_steps_are_followed_and_large_ones_are_not() {
        let clock = clock();
        let slewed = times(HOUR + SECOND, 4 * SECOND);
        assert_eq!(clock.read_at(slewed).time, slewed.wall);
        assert_eq!(clock.supervise_at(slewed), None);
        for ahead in [24 * HOUR, -24 * HOUR] {
            let stepped = times(HOUR + 2 * SECOND, ahead + 4 * SECOND);
            let reading = clock.read_at(stepped);
            assert_eq!(reading.trust, Trust::Anchored);
            assert_eq!(reading.time.0 as i64, BOOT + HOUR + 6 * SECOND);
            assert_eq!(clock.supervise_at(stepped), Some(Change::Stepped(ahead)));
            assert_eq!(clock.supervise_at(stepped), None, "reported once");
        }
        let back = times(HOUR + 3 * SECOND, 4 * SECOND);
        assert_eq!(clock.read_at(back).trust, Trust::System);
        assert_eq!(clock.supervise_at(back), Some(Change::AgreesAgain));
    }

    #[test]
    fn steady_step_is_accepted_after_the_configured_time() {
        let clock = clock();
        clock.supervise_at(times(HOUR, 9 * HOUR));
        assert_eq!(
            clock.supervise_at(times(HOUR + 599 * SECOND, 9 * HOUR)),
            None
        );
        // Another step begins the time again.
        let other = times(HOUR + 599 * SECOND, 5 * HOUR);
        assert_eq!(clock.supervise_at(other), Some(Change::Stepped(5 * HOUR)));
        assert_eq!(
            clock.supervise_at(times(HOUR + 601 * SECOND, 5 * HOUR)),
            None
        );
        let steady = times(HOUR + 1_199 * SECOND, 5 * HOUR);
        assert_eq!(
            clock.supervise_at(steady),
            Some(Change::StepAccepted(5 * HOUR))
        );
        assert_eq!(clock.read_at(steady).trust, Trust::System);
    }

    #[test]
    fn another_node_confirms_or_contradicts_a_step() {
        let confirmed = clock();
        let stepped = times(HOUR, 9 * HOUR);
        confirmed.supervise_at(stepped);
        let accepted = confirmed.learn(stepped.wall, stepped);
        assert_eq!(accepted, Some(Change::StepAccepted(9 * HOUR)));

        let contradicted = clock();
        contradicted.supervise_at(stepped);
        assert_eq!(contradicted.learn(true_time(HOUR), stepped), None);
        let much_later = times(40 * HOUR, 9 * HOUR);
        assert_eq!(contradicted.supervise_at(much_later), None);
        assert_eq!(contradicted.read_at(much_later).time, true_time(40 * HOUR));

        // What was learned before the step confirms it at once, and does not contradict it for ever.
        let late = TrustedClock::at(Tolerance::default(), EARLIEST, times(HOUR, -9 * HOUR));
        late.learn(true_time(HOUR), times(HOUR, -9 * HOUR));
        let corrected = times(2 * HOUR, 0);
        assert_eq!(
            late.supervise_at(corrected),
            Some(Change::StepAccepted(9 * HOUR))
        );
    }

    #[test]
    fn impossible_time_is_never_accepted() {
        let clock = clock();
        let beyond = LATEST.0 as i64 - BOOT + HOUR;
        let first = times(HOUR, beyond);
        assert_eq!(
            clock.supervise_at(first),
            Some(Change::OutOfBounds(first.wall))
        );
        let later = times(100 * HOUR, beyond);
        assert_eq!(clock.supervise_at(later), None);
        assert_eq!(clock.read_at(later).time, true_time(100 * HOUR));
        assert_eq!(clock.learn(later.wall, later), None, "whoever says so");
    }

    #[test]
    fn impossible_time_at_start_leaves_an_estimate() {
        let before = |since_boot| SystemTimes {
            wall: Micros((2 * HOUR + since_boot) as u64),
            since_boot,
        };
        let floor = Micros(EARLIEST.0 + 7);
        let clock = TrustedClock::at(Tolerance::default(), floor, before(HOUR));
        let reading = clock.read_at(before(HOUR + SECOND));
        assert_eq!((reading.trust, reading.trusted()), (Trust::Unknown, None));
        assert_eq!(reading.time, before(HOUR + SECOND).wall);
        assert_eq!(reading.estimate.0, floor.0 + SECOND as u64);
        assert!(matches!(
            clock.supervise_at(before(HOUR)),
            Some(Change::OutOfBounds(_))
        ));
        assert_eq!(clock.supervise_at(before(2 * HOUR)), None);

        let learned = clock.learn(true_time(2 * HOUR), before(2 * HOUR));
        assert_eq!(learned, Some(Change::Anchored));
        let reading = clock.read_at(before(3 * HOUR));
        assert_eq!(
            (reading.trust, reading.time),
            (Trust::Anchored, true_time(3 * HOUR))
        );
        let set = clock.supervise_at(times(4 * HOUR, 0));
        assert_eq!(set, Some(Change::AgreesAgain));
    }

    #[test]
    fn clock_set_after_a_start_without_one_is_trusted() {
        let wrong = SystemTimes {
            wall: Micros(0),
            since_boot: HOUR,
        };
        let clock = TrustedClock::at(Tolerance::default(), EARLIEST, wrong);
        assert_eq!(
            clock.supervise_at(times(2 * HOUR, 0)),
            Some(Change::Anchored)
        );
        assert_eq!(clock.read_at(times(2 * HOUR, 0)).trust, Trust::System);
    }
}
