//! The time of day, protected against steps and implausible values of the system clock.
//!
//! The trusted time is an anchor plus the time elapsed since, measured by `CLOCK_BOOTTIME`, which can't
//! be set and which includes suspension. The system clock is not followed when it departs from that by
//! more than a tolerated step, or shows a time outside [`EARLIEST_TIME`] to [`LATEST_TIME`]. It is
//! followed again when it agrees again, another node confirms it, or the step has been steady for long
//! enough.
//!
//! Reading the time takes no lock and no system call beyond the two clocks.
//! Invariant: no files and no network here.
#![forbid(unsafe_code)]

mod bounds;
mod supervision;

pub use bounds::{EARLIEST_TIME, LATEST_TIME};
pub use supervision::ClockChange;

use domain::Micros;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use supervision::StepSupervision;

/// The offset while no time is trusted.
const UNANCHORED: i64 = i64::MIN;

/// Limits within which the system clock is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTolerance {
    /// The maximum departure of the system clock from the elapsed time.
    pub max_step: Duration,
    /// The time after which a larger step is accepted if no other node contradicts it.
    pub accept_step_after: Duration,
}

impl Default for StepTolerance {
    fn default() -> Self {
        Self {
            max_step: Duration::from_secs(5),
            accept_step_after: Duration::from_secs(600),
        }
    }
}

/// A clock shared by all threads of a process.
#[derive(Debug)]
pub struct TrustedClock {
    tolerance: StepTolerance,
    /// The trusted time minus the time since boot.
    offset: AtomicI64,
    /// The estimated time minus the time since boot, for use while no time is trusted.
    estimate_offset: AtomicI64,
    supervision: Mutex<StepSupervision>,
}

/// The values of both system clocks at one moment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemTimes {
    /// The time of day, since 1970.
    pub wall: Micros,
    /// The time since boot.
    pub since_boot: i64,
}

/// The source of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// The system clock, which agrees with the elapsed time.
    System,
    /// The anchor plus the elapsed time, because the system clock contradicts it.
    Anchored,
    /// The system clock, which is certainly wrong, because there is no better source.
    Unknown,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The time recorded in events: the trusted time, else the system clock's.
    pub time: Micros,
    /// The best estimate: the trusted time, else a plausible time that advances with the elapsed time.
    pub estimate: Micros,
    /// The source of `time`.
    pub source: TimeSource,
}

impl SystemTimes {
    /// The values now.
    #[must_use]
    pub fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        Self {
            wall: Micros::now(),
            since_boot: boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000,
        }
    }

    /// The time of day minus the time since boot.
    fn wall_offset(self) -> i64 {
        signed(self.wall).saturating_sub(self.since_boot)
    }
}

impl ClockReading {
    /// The time, if it can be trusted.
    #[must_use]
    pub fn trusted(&self) -> Option<Micros> {
        (self.source != TimeSource::Unknown).then_some(self.time)
    }
}

impl TrustedClock {
    /// A clock anchored at the system clock's time, if that is plausible. Otherwise the estimate starts
    /// at `floor`, a time that has certainly passed.
    #[must_use]
    pub fn new(tolerance: StepTolerance, floor: Micros) -> Self {
        Self::at(tolerance, floor, SystemTimes::now())
    }

    /// [`TrustedClock::new`] at the moment of `times`.
    #[must_use]
    pub fn at(tolerance: StepTolerance, floor: Micros, times: SystemTimes) -> Self {
        let floor = if bounds::contain(floor) {
            floor
        } else {
            EARLIEST_TIME
        };
        let offset = match bounds::contain(times.wall) {
            true => times.wall_offset(),
            false => UNANCHORED,
        };
        Self {
            tolerance,
            offset: AtomicI64::new(offset),
            estimate_offset: AtomicI64::new(signed(floor).saturating_sub(times.since_boot)),
            supervision: Mutex::default(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn read(&self) -> ClockReading {
        self.read_at(SystemTimes::now())
    }

    /// The time at the moment of `times`.
    #[must_use]
    pub fn read_at(&self, times: SystemTimes) -> ClockReading {
        let wall = times.wall;
        let is_possible = bounds::contain(wall);
        match self.offset.load(Ordering::Relaxed) {
            UNANCHORED => ClockReading {
                time: wall,
                estimate: unsigned(times.since_boot + self.estimate_offset.load(Ordering::Relaxed)),
                source: TimeSource::Unknown,
            },
            offset if is_possible && self.is_within_step(times.wall_offset(), offset) => {
                ClockReading {
                    time: wall,
                    estimate: wall,
                    source: TimeSource::System,
                }
            }
            offset => {
                let anchored = unsigned(times.since_boot.saturating_add(offset));
                ClockReading {
                    time: anchored,
                    estimate: anchored,
                    source: TimeSource::Anchored,
                }
            }
        }
    }

    /// Compares the system clock with the elapsed time and returns a change; one task calls this about
    /// once a second.
    pub fn observe_system_clock(&self) -> Option<ClockChange> {
        self.observe_system_clock_at(SystemTimes::now())
    }

    /// [`TrustedClock::observe_system_clock`] at the moment of `times`.
    pub fn observe_system_clock_at(&self, times: SystemTimes) -> Option<ClockChange> {
        self.supervision.lock().observe_system_clock(self, times)
    }

    /// Compares the clocks with another node's `time` at the moment of `times` and returns a change.
    pub fn observe_peer_time(&self, time: Micros, times: SystemTimes) -> Option<ClockChange> {
        self.supervision.lock().observe_peer_time(self, time, times)
    }

    /// The reason why the system clock is not followed, as text; `None` while it is followed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let times = SystemTimes::now();
        let reading = self.read_at(times);
        match reading.source {
            TimeSource::System => None,
            TimeSource::Unknown => Some(format!(
                "the system clock shows {}, which is outside {}; set it",
                bounds::format_date(times.wall),
                bounds::format_range(),
            )),
            TimeSource::Anchored => {
                let ahead = signed(times.wall).saturating_sub(signed(reading.time));
                let direction = if ahead < 0 { "behind" } else { "ahead of" };
                let seconds = ahead.unsigned_abs() / 1_000_000;
                Some(format!(
                    "the system clock is {seconds} s {direction} the trusted time; set it, or wait until it \
                     has been steady for {} s",
                    self.tolerance.accept_step_after.as_secs()
                ))
            }
        }
    }

    /// Whether two times differ by no more than the maximum step.
    #[must_use]
    pub fn is_within_max_step(&self, time: Micros, other: Micros) -> bool {
        self.is_within_step(signed(time), signed(other))
    }

    fn is_within_step(&self, offset: i64, other: i64) -> bool {
        u128::from(offset.abs_diff(other)) <= self.tolerance.max_step.as_micros()
    }

    fn anchor(&self) -> Option<i64> {
        let offset = self.offset.load(Ordering::Relaxed);
        (offset != UNANCHORED).then_some(offset)
    }

    fn set_anchor(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

fn signed(time: Micros) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn unsigned(micros: i64) -> Micros {
    Micros(u64::try_from(micros).unwrap_or_default())
}
