//! The trusted time of day, extrapolated between readings by the monotonic clock, which is read for each request
//! anyway.

use domain::Micros;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracking_events::Flags;
use trusted_clock::{ClockReading, TimeSource, TrustedClock};

/// The interval of readings: a step of the system clock is detected within it.
const READ_INTERVAL: Duration = Duration::from_millis(10);

/// The last reading of the trusted clock.
#[derive(Debug)]
pub(super) struct Clock {
    source: Arc<TrustedClock>,
    read: Instant,
    then: ClockReading,
}

/// The time of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// The time stored in its event.
    pub(super) time: Micros,
    /// The best estimate, for all comparisons of times.
    pub(super) estimate: Micros,
    /// The event's marks.
    pub(super) flags: Flags,
}

impl Clock {
    pub(super) fn new(source: Arc<TrustedClock>) -> Self {
        Self {
            read: Instant::now(),
            then: source.read(),
            source,
        }
    }

    /// The time of day at `now`, a recent instant.
    pub(super) fn at(&mut self, now: Instant) -> Now {
        let mut since = now.saturating_duration_since(self.read);
        if since >= READ_INTERVAL {
            self.read = Instant::now();
            self.then = self.source.read();
            since = Duration::ZERO;
        }
        let since = since.as_micros() as u64;
        let ClockReading {
            time,
            estimate,
            source,
        } = self.then;
        Now {
            time: Micros(time.0 + since),
            estimate: Micros(estimate.0 + since),
            flags: marks(source),
        }
    }
}

const fn marks(trust: TimeSource) -> Flags {
    match trust {
        TimeSource::System => Flags(0),
        TimeSource::Anchored => Flags::CLOCK_WRONG,
        TimeSource::Unknown => Flags(Flags::CLOCK_WRONG.0 | Flags::TIME_UNKNOWN.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trusted_clock::{EARLIEST_TIME, StepTolerance, SystemTimes};

    #[test]
    fn time_follows_the_monotonic_clock_between_readings() {
        let source = Arc::new(TrustedClock::new(StepTolerance::default(), EARLIEST_TIME));
        let read = Instant::now();
        let mut clock = Clock {
            read,
            then: ClockReading {
                time: Micros(5),
                estimate: Micros(7),
                source: TimeSource::Anchored,
            },
            source,
        };
        let now = clock.at(read + Duration::from_micros(9_999));
        assert_eq!((now.time, now.estimate), (Micros(10_004), Micros(10_006)));
        assert_eq!(now.flags, Flags::CLOCK_WRONG);
        let before = Micros::now();
        let followed = clock.at(read + READ_INTERVAL);
        assert!(
            (before..=Micros::now()).contains(&followed.time),
            "{followed:?}"
        );
        assert_eq!(
            (followed.time, followed.flags),
            (followed.estimate, Flags(0))
        );
        assert_eq!(
            clock.at(read),
            followed,
            "a time before the reading is the reading's"
        );
    }

    #[test]
    fn events_are_marked_while_the_system_clock_is_wrong() {
        let wrong = SystemTimes {
            wall: Micros(5),
            ..SystemTimes::now()
        };
        let unknown = TrustedClock::at(StepTolerance::default(), EARLIEST_TIME, wrong);
        let marks = marks(unknown.read_at(wrong).source);
        assert!(marks.any(Flags::CLOCK_WRONG) && marks.any(Flags::TIME_UNKNOWN));
    }
}
