//! Latencies outside of steal time. A virtual machine that loses its core to another one for 10 ms sends no
//! responses meanwhile, so the measured latency is that of the host.
//!
//! The kernel's steal counter decides which slices of time count, not the latencies. The filter is not exact: the
//! counter has a resolution of 10 ms, and idle cores lose no time, so that idle slices pass more often. All
//! latencies are reported, too.

use super::machine::{Cores, stolen_ticks};
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant};

/// Duration of a slice. The neighbors of a slice with steal time are excluded, too: the counter is updated late,
/// and delayed requests finish later.
const SLICE_DURATION: Duration = Duration::from_millis(50);
/// Upper bound of recorded latencies.
const MAX_LATENCY_NANOS: u64 = 60_000_000_000;
/// Minimum share of slices without steal time for a separate result.
const MIN_CALM_SHARE: f64 = 0.2;

/// Determines the end of each slice and its steal time.
#[derive(Debug)]
pub(super) struct StealSampler {
    cores: Cores,
    ticks: u64,
    ends: Instant,
}

#[derive(Debug)]
pub(super) struct Latencies {
    /// All latencies in nanoseconds.
    all: Histogram<u64>,
    /// Latencies of slices without steal time.
    calm: Histogram<u64>,
    /// Latencies of the current and the previous slice, if slices are used.
    slices: Option<[Vec<u64>; 2]>,
    /// Whether the last three slices had steal time.
    taken: [bool; 3],
    ended: u32,
    were_calm: u32,
}

impl StealSampler {
    /// Starts slices on these cores.
    ///
    /// # Errors
    /// If the kernel does not report steal time.
    pub(super) fn from_now(cores: Cores) -> anyhow::Result<Self> {
        Ok(Self {
            cores,
            ticks: stolen_ticks(cores)?,
            ends: Instant::now() + SLICE_DURATION,
        })
    }

    /// Whether the slice that has ended by `now` had steal time; `None` if none has ended.
    ///
    /// # Errors
    /// As [`Slices::from_now`].
    pub(super) fn ended(&mut self, now: Instant) -> anyhow::Result<Option<bool>> {
        if now < self.ends {
            return Ok(None);
        }
        let before = mem::replace(self, Self::from_now(self.cores)?);
        Ok(Some(self.ticks > before.ticks))
    }
}

impl Latencies {
    /// With `slices`, latencies are filtered by slices.
    pub(super) fn new(slices: bool) -> Self {
        let none = Histogram::new_with_max(MAX_LATENCY_NANOS, 3).expect("bounds that are right");
        Self {
            all: none.clone(),
            calm: none,
            slices: slices.then(Default::default),
            taken: [true; 3],
            ended: 0,
            were_calm: 0,
        }
    }

    /// Records a latency that ends now.
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(MAX_LATENCY_NANOS);
        self.all.saturating_record(nanos);
        if let Some([now, _]) = &mut self.slices {
            now.push(nanos);
        }
    }

    /// Ends a slice that did or did not have steal time. Latencies after the last slice count only among all.
    pub(super) fn end_slice(&mut self, taken: bool) {
        let [_, second, third] = self.taken;
        self.taken = [second, third, taken];
        self.ended += 1;
        let Some([now, before]) = &mut self.slices else {
            return;
        };
        if self.taken == [false; 3] {
            self.were_calm += 1;
            for nanos in &*before {
                self.calm.saturating_record(*nanos);
            }
        }
        mem::swap(now, before);
        now.clear();
    }

    /// Discards all latencies but keeps the state of the last slices.
    pub(super) fn reset(&mut self) {
        let taken = self.taken;
        *self = Self::new(self.slices.is_some());
        self.taken = taken;
    }

    /// All latencies in nanoseconds.
    pub(super) const fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Latencies without steal time; all latencies if less than a fifth of the slices passed.
    pub(super) fn calm(&self) -> &Histogram<u64> {
        if self.calm.is_empty() || self.calm_share() < MIN_CALM_SHARE {
            &self.all
        } else {
            &self.calm
        }
    }

    /// The share of slices without steal time.
    pub(super) fn calm_share(&self) -> f64 {
        f64::from(self.were_calm) / f64::from(self.ended.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies of 1 ms, 2 ms and so on, one per slice.
    fn latencies(slices: &[bool]) -> Latencies {
        let mut latencies = Latencies::new(true);
        for (millis, taken) in (1..).zip(slices) {
            latencies.record(Duration::from_millis(millis));
            latencies.end_slice(*taken);
        }
        latencies
    }

    #[test]
    fn neighbors_of_slices_with_steal_time_are_excluded() {
        // What came before the first is not known, nor what comes after the last.
        let latencies = latencies(&[false, false, false, true, false, false, false, false]);
        let calm = latencies.calm().iter_recorded();
        let calm: Vec<u64> = calm.map(|it| it.value_iterated_to() / 1_000_000).collect();
        assert_eq!(calm, [2, 6, 7]);
        assert_eq!(latencies.all().len(), 8);
        assert_eq!(latencies.calm_share(), 3.0 / 8.0);
    }

    #[test]
    fn all_latencies_count_if_few_slices_pass() {
        let mut slices = [true; 20];
        slices[4..7].fill(false);
        let latencies = latencies(&slices);
        assert_eq!(latencies.calm_share(), 1.0 / 20.0);
        assert_eq!(latencies.calm().len(), 20);
    }

    #[test]
    fn reset_discards_earlier_latencies() {
        let mut latencies = latencies(&[false; 5]);
        latencies.reset();
        assert!(latencies.all().is_empty());
        for _ in 0..2 {
            latencies.record(Duration::from_millis(9));
            latencies.end_slice(false);
        }
        // The first one follows slices without steal time.
        assert_eq!(latencies.calm().len(), 1);
    }
}
