//! The time of day, and whether the system's clock can be trusted about it.
//!
//! The clock is anchored: the last trusted time plus the time that has elapsed since, counted by
//! `CLOCK_BOOTTIME`, which no one can set and which counts suspension. A system clock that departs from it
//! by more than a step's tolerance, or shows a time outside [`EARLIEST`] to [`LATEST`], is not followed
//! until it agrees again, another node confirms it, or it has kept to its step for long enough.
//!
//! Reading takes no lock and no system call beyond the two clocks. Invariant: no files and no network here.
#![forbid(unsafe_code)]

mod bounds;
mod supervision;

pub use bounds::{EARLIEST, LATEST};
pub use supervision::Change;

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::Supervision;
use tracking_events::Micros;

/// No time is trusted yet.
const UNANCHORED: i64 = i64::MIN;

/// How far a system clock is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// The most that the system clock may depart from the elapsed time at once.
    pub max_step: Duration,
    /// A step beyond it is accepted when nothing contradicts it for this long.
    pub accept_step_after: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            max_step: Duration::from_secs(5),
            accept_step_after: Duration::from_secs(600),
        }
    }
}

/// A clock that all threads of a process share.
#[derive(Debug)]
pub struct TrustedClock {
    tolerance: Tolerance,
    /// The trusted time is the time since the boot plus this.
    offset: AtomicI64,
    /// The same for an estimate while no time is trusted.
    estimate_offset: AtomicI64,
    supervision: Mutex<Supervision>,
}

/// What both clocks of the system show at one moment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemTimes {
    /// The time of day, since 1970.
    pub wall: Micros,
    /// The time since the boot.
    pub since_boot: i64,
}

/// Whose word a time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The system clock's, which agrees with the elapsed time.
    System,
    /// The elapsed time's: the system clock contradicts it.
    Anchored,
    /// The system clock's, which is certainly wrong, and there is nothing better.
    Unknown,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What an event is recorded with: the trusted time, else what the system clock shows.
    pub time: Micros,
    /// The best estimate: the trusted time, else one that is in bounds and goes with the elapsed time.
    pub estimate: Micros,
    /// Whose word `time` is.
    pub trust: Trust,
}

impl SystemTimes {
    /// What they show now.
    #[must_use]
    pub fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        Self {
            wall: Micros::now(),
            since_boot: boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000,
        }
    }

    /// From the time since the boot to the time of day.
    fn wall_offset(self) -> i64 {
        signed(self.wall).saturating_sub(self.since_boot)
    }
}

impl Reading {
    /// The time, if it can be trusted.
    #[must_use]
    pub fn trusted(&self) -> Option<Micros> {
        (self.trust != Trust::Unknown).then_some(self.time)
    }
}

impl TrustedClock {
    /// A clock anchored at what the system clock shows, if that is in bounds. `floor` is a time that has
    /// certainly passed; the estimate begins there otherwise.
    #[must_use]
    pub fn new(tolerance: Tolerance, floor: Micros) -> Self {
        Self::at(tolerance, floor, SystemTimes::now())
    }

    /// [`TrustedClock::new`] at the moment of `times`.
    #[must_use]
    pub fn at(tolerance: Tolerance, floor: Micros, times: SystemTimes) -> Self {
        let floor = if bounds::contain(floor) {
            floor
        } else {
            EARLIEST
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
    pub fn read(&self) -> Reading {
        self.read_at(SystemTimes::now())
    }

    /// The time at the moment of `times`.
    #[must_use]
    pub fn read_at(&self, times: SystemTimes) -> Reading {
        let wall = times.wall;
        let is_possible = bounds::contain(wall);
        match self.offset.load(Ordering::Relaxed) {
            UNANCHORED => Reading {
                time: wall,
                estimate: unsigned(times.since_boot + self.estimate_offset.load(Ordering::Relaxed)),
                trust: Trust::Unknown,
            },
            offset if is_possible && self.is_within_step(times.wall_offset(), offset) => Reading {
                time: wall,
                estimate: wall,
                trust: Trust::System,
            },
            offset => {
                let anchored = unsigned(times.since_boot.saturating_add(offset));
                Reading {
                    time: anchored,
                    estimate: anchored,
                    trust: Trust::Anchored,
                }
            }
        }
    }

    /// Takes note of how the system clock goes; to be called about once a second by one task. Says what
    /// has changed.
    pub fn supervise(&self) -> Option<Change> {
        self.supervise_at(SystemTimes::now())
    }

    /// [`TrustedClock::supervise`] at the moment of `times`.
    pub fn supervise_at(&self, times: SystemTimes) -> Option<Change> {
        self.lock().supervise(self, times)
    }

    /// Takes note of the time of another node, which was `time` when `times` was read. Says what has
    /// changed.
    pub fn learn(&self, time: Micros, times: SystemTimes) -> Option<Change> {
        self.lock().learn(self, time, times)
    }

    /// Why the system clock is not followed, in words; nothing while it is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let times = SystemTimes::now();
        let reading = self.read_at(times);
        match reading.trust {
            Trust::System => None,
            Trust::Unknown => Some(format!(
                "the system clock shows {}, which is outside {EARLIEST_TEXT}; set it",
                bounds::shown(times.wall),
                EARLIEST_TEXT = bounds::shown_range(),
            )),
            Trust::Anchored => {
                let ahead = signed(times.wall).saturating_sub(signed(reading.time));
                let word = if ahead < 0 { "behind" } else { "ahead of" };
                let seconds = ahead.unsigned_abs() / 1_000_000;
                Some(format!(
                    "the system clock is {seconds} s {word} the time that has elapsed since it was right; set it, \
                     or wait until it has been steady for {} s",
                    self.tolerance.accept_step_after.as_secs()
                ))
            }
        }
    }

    /// Whether two times differ by no more than a step that is followed.
    #[must_use]
    pub fn tolerates(&self, time: Micros, other: Micros) -> bool {
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

    fn lock(&self) -> MutexGuard<'_, Supervision> {
        self.supervision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(time: Micros) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn unsigned(micros: i64) -> Micros {
    Micros(u64::try_from(micros).unwrap_or_default())
}
