//! Decides when a step of the system clock is accepted; pure computation without clocks.

use crate::{SystemTimes, TrustedClock, bounds, signed};
use domain::Micros;
use std::fmt;

/// Observations besides the anchor. Offsets are the time of day minus the time since boot.
#[derive(Debug, Default)]
pub(crate) struct StepSupervision {
    step: Option<ObservedStep>,
    peer: Option<PeerTime>,
}

/// A step of the system clock that is not followed.
#[derive(Debug, Clone, Copy)]
struct ObservedStep {
    offset: i64,
    /// When this offset was first observed.
    since_boot: i64,
}

/// The time of another node.
#[derive(Debug, Clone, Copy)]
struct PeerTime {
    offset: i64,
    observed_at: i64,
}

/// A change in the state of the clock; its text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The system clock was set by this many microseconds and is not followed.
    Stepped(i64),
    /// The system clock shows an implausible time.
    OutOfBounds(Micros),
    /// The system clock agrees with the elapsed time again.
    AgreesAgain,
    /// A step of this many microseconds is accepted.
    StepAccepted(i64),
    /// The first trusted time is known.
    Anchored,
}

impl ClockChange {
    /// The label value for metrics.
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

    /// Whether the change is a fault rather than the end of one.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Stepped(_) | Self::OutOfBounds(_))
    }
}

impl fmt::Display for ClockChange {
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
                let (time, range) = (bounds::format_date(*time), bounds::format_range());
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
            Self::Anchored => f.write_str("the time of day is trusted now"),
        }
    }
}

impl StepSupervision {
    pub(crate) fn observe_system_clock(
        &mut self,
        clock: &TrustedClock,
        times: SystemTimes,
    ) -> Option<ClockChange> {
        let is_possible = bounds::contain(times.wall);
        let offset = times.wall_offset();
        let Some(anchor) = clock.anchor() else {
            if is_possible {
                clock.set_anchor(offset);
                self.step = None;
                return Some(ClockChange::Anchored);
            }
            return self
                .record_step(clock, times)
                .map(|()| ClockChange::OutOfBounds(times.wall));
        };
        if is_possible && clock.is_within_step(offset, anchor) {
            clock.set_anchor(offset);
            return self.step.take().map(|_| ClockChange::AgreesAgain);
        }
        let is_new = self.record_step(clock, times);
        if is_possible && self.is_step_accepted(clock, times) {
            clock.set_anchor(offset);
            self.step = None;
            return Some(ClockChange::StepAccepted(offset.saturating_sub(anchor)));
        }
        is_new.map(|()| match is_possible {
            true => ClockChange::Stepped(offset.saturating_sub(anchor)),
            false => ClockChange::OutOfBounds(times.wall),
        })
    }

    pub(crate) fn observe_peer_time(
        &mut self,
        clock: &TrustedClock,
        time: Micros,
        times: SystemTimes,
    ) -> Option<ClockChange> {
        if !bounds::contain(time) {
            return None;
        }
        let offset = signed(time).saturating_sub(times.since_boot);
        self.peer = Some(PeerTime {
            offset,
            observed_at: times.since_boot,
        });
        if clock.anchor().is_none() && !bounds::contain(times.wall) {
            clock.set_anchor(offset);
            return Some(ClockChange::Anchored);
        }
        self.observe_system_clock(clock, times)
    }

    /// Records the system clock's offset and when it was first observed; `Some` for a new offset.
    fn record_step(&mut self, clock: &TrustedClock, times: SystemTimes) -> Option<()> {
        let offset = times.wall_offset();
        if self
            .step
            .is_some_and(|step| clock.is_within_step(offset, step.offset))
        {
            return None;
        }
        self.step = Some(ObservedStep {
            offset,
            since_boot: times.since_boot,
        });
        Some(())
    }

    fn is_step_accepted(&self, clock: &TrustedClock, times: SystemTimes) -> bool {
        let Some(step) = self.step else {
            return false;
        };
        if let Some(peer) = self.peer {
            if clock.is_within_step(times.wall_offset(), peer.offset) {
                return true;
            }
            // Only a peer time after the step contradicts it: the machine may have been suspended before.
            if peer.observed_at >= step.since_boot {
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
    use crate::{EARLIEST_TIME, LATEST_TIME, StepTolerance, TimeSource};

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;
    /// The time of day when the machine was booted.
    const BOOT: i64 = EARLIEST_TIME.0 as i64 + 1_000 * HOUR;

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
        TrustedClock::at(StepTolerance::default(), EARLIEST_TIME, times(HOUR, 0))
    }

    #[test]
    fn small_steps_are_followed_and_large_ones_are_not() {
        let clock = clock();
        let slewed = times(HOUR + SECOND, 4 * SECOND);
        assert_eq!(clock.read_at(slewed).time, slewed.wall);
        assert_eq!(clock.observe_system_clock_at(slewed), None);
        for ahead in [24 * HOUR, -24 * HOUR] {
            let stepped = times(HOUR + 2 * SECOND, ahead + 4 * SECOND);
            let reading = clock.read_at(stepped);
            assert_eq!(reading.source, TimeSource::Anchored);
            assert_eq!(reading.time.0 as i64, BOOT + HOUR + 6 * SECOND);
            assert_eq!(
                clock.observe_system_clock_at(stepped),
                Some(ClockChange::Stepped(ahead))
            );
            assert_eq!(
                clock.observe_system_clock_at(stepped),
                None,
                "reported once"
            );
        }
        let back = times(HOUR + 3 * SECOND, 4 * SECOND);
        assert_eq!(clock.read_at(back).source, TimeSource::System);
        assert_eq!(
            clock.observe_system_clock_at(back),
            Some(ClockChange::AgreesAgain)
        );
    }

    #[test]
    fn steady_step_is_accepted_after_the_configured_time() {
        let clock = clock();
        clock.observe_system_clock_at(times(HOUR, 9 * HOUR));
        assert_eq!(
            clock.observe_system_clock_at(times(HOUR + 599 * SECOND, 9 * HOUR)),
            None
        );
        // Another step restarts the waiting time.
        let other = times(HOUR + 599 * SECOND, 5 * HOUR);
        assert_eq!(
            clock.observe_system_clock_at(other),
            Some(ClockChange::Stepped(5 * HOUR))
        );
        assert_eq!(
            clock.observe_system_clock_at(times(HOUR + 601 * SECOND, 5 * HOUR)),
            None
        );
        let steady = times(HOUR + 1_199 * SECOND, 5 * HOUR);
        assert_eq!(
            clock.observe_system_clock_at(steady),
            Some(ClockChange::StepAccepted(5 * HOUR))
        );
        assert_eq!(clock.read_at(steady).source, TimeSource::System);
    }

    #[test]
    fn another_node_confirms_or_contradicts_a_step() {
        let confirmed = clock();
        let stepped = times(HOUR, 9 * HOUR);
        confirmed.observe_system_clock_at(stepped);
        let accepted = confirmed.observe_peer_time(stepped.wall, stepped);
        assert_eq!(accepted, Some(ClockChange::StepAccepted(9 * HOUR)));

        let contradicted = clock();
        contradicted.observe_system_clock_at(stepped);
        assert_eq!(
            contradicted.observe_peer_time(true_time(HOUR), stepped),
            None
        );
        let much_later = times(40 * HOUR, 9 * HOUR);
        assert_eq!(contradicted.observe_system_clock_at(much_later), None);
        assert_eq!(contradicted.read_at(much_later).time, true_time(40 * HOUR));

        // A peer time before the step can confirm it at once, but can't contradict it permanently.
        let late = TrustedClock::at(
            StepTolerance::default(),
            EARLIEST_TIME,
            times(HOUR, -9 * HOUR),
        );
        late.observe_peer_time(true_time(HOUR), times(HOUR, -9 * HOUR));
        let corrected = times(2 * HOUR, 0);
        assert_eq!(
            late.observe_system_clock_at(corrected),
            Some(ClockChange::StepAccepted(9 * HOUR))
        );
    }

    #[test]
    fn impossible_time_is_never_accepted() {
        let clock = clock();
        let beyond = LATEST_TIME.0 as i64 - BOOT + HOUR;
        let first = times(HOUR, beyond);
        assert_eq!(
            clock.observe_system_clock_at(first),
            Some(ClockChange::OutOfBounds(first.wall))
        );
        let later = times(100 * HOUR, beyond);
        assert_eq!(clock.observe_system_clock_at(later), None);
        assert_eq!(clock.read_at(later).time, true_time(100 * HOUR));
        assert_eq!(
            clock.observe_peer_time(later.wall, later),
            None,
            "not even from another node"
        );
    }

    #[test]
    fn impossible_time_at_start_leaves_an_estimate() {
        let before = |since_boot| SystemTimes {
            wall: Micros((2 * HOUR + since_boot) as u64),
            since_boot,
        };
        let floor = Micros(EARLIEST_TIME.0 + 7);
        let clock = TrustedClock::at(StepTolerance::default(), floor, before(HOUR));
        let reading = clock.read_at(before(HOUR + SECOND));
        assert_eq!(
            (reading.source, reading.trusted()),
            (TimeSource::Unknown, None)
        );
        assert_eq!(reading.time, before(HOUR + SECOND).wall);
        assert_eq!(reading.estimate.0, floor.0 + SECOND as u64);
        assert!(matches!(
            clock.observe_system_clock_at(before(HOUR)),
            Some(ClockChange::OutOfBounds(_))
        ));
        assert_eq!(clock.observe_system_clock_at(before(2 * HOUR)), None);

        let learned = clock.observe_peer_time(true_time(2 * HOUR), before(2 * HOUR));
        assert_eq!(learned, Some(ClockChange::Anchored));
        let reading = clock.read_at(before(3 * HOUR));
        assert_eq!(
            (reading.source, reading.time),
            (TimeSource::Anchored, true_time(3 * HOUR))
        );
        let set = clock.observe_system_clock_at(times(4 * HOUR, 0));
        assert_eq!(set, Some(ClockChange::AgreesAgain));
    }

    #[test]
    fn clock_set_after_a_start_without_one_is_trusted() {
        let wrong = SystemTimes {
            wall: Micros(0),
            since_boot: HOUR,
        };
        let clock = TrustedClock::at(StepTolerance::default(), EARLIEST_TIME, wrong);
        assert_eq!(
            clock.observe_system_clock_at(times(2 * HOUR, 0)),
            Some(ClockChange::Anchored)
        );
        assert_eq!(clock.read_at(times(2 * HOUR, 0)).source, TimeSource::System);
    }
}
