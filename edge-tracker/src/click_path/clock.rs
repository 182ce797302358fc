//! The time of day, told by the monotonic clock, which has been read for the request anyway.

use std::time::{Duration, Instant};
use tracking_events::Micros;

/// A step of the system's clock is followed within this.
const READ_EVERY: Duration = Duration::from_millis(10);

/// What both clocks said when the system's was last read.
#[derive(Debug)]
pub(super) struct Clock {
    read: Instant,
    then: Micros,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            read: Instant::now(),
            then: Micros::now(),
        }
    }

    /// The time of day at `now`, which is about now.
    pub(super) fn at(&mut self, now: Instant) -> Micros {
        let since = now.saturating_duration_since(self.read);
        if since >= READ_EVERY {
            *self = Self::new();
            return self.then;
        }
        Micros(self.then.0 + since.as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_monotonic_clock_and_follows_the_system_s() {
        let read = Instant::now();
        // As if the system's clock had been stepped since.
        let mut clock = Clock {
            read,
            then: Micros(5),
        };
        assert_eq!(clock.at(read), Micros(5));
        assert_eq!(
            clock.at(read + Duration::from_micros(9_999)),
            Micros(10_004)
        );
        let before = Micros::now();
        let followed = clock.at(read + READ_EVERY);
        assert!((before..=Micros::now()).contains(&followed), "{followed:?}");
        assert_eq!(
            clock.at(read),
            followed,
            "a time before the reading is the reading's"
        );
    }
}
