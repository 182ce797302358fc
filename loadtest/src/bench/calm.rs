//! Latencies of the time in which the machine's host took nothing away for other machines. A virtual machine
//! whose core is taken for 10 ms answers nobody meanwhile: what is measured then is the host.
//!
//! Which slices of time count is decided by what the kernel says was stolen in them, not by latencies. Both
//! ways it is not exact: the kernel tells of whole hundredths of a second, and nothing is stolen from a core
//! that has nothing to do, so that idle slices are calm more often. All latencies are kept beside.

use super::machine::{Cores, stolen_ticks};
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant};

/// How long a slice is. Of the neighbours of one in which time was taken neither counts: the kernel's
/// figures go up after the fact, and who waited then is answered later.
const SLICE: Duration = Duration::from_millis(50);
/// Latencies are kept up to this, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// What share of the slices must be calm for them to tell anything by themselves.
const ENOUGH: f64 = 0.2;

/// Says which slices of time have ended, and whether anything was taken in them.
#[derive(Debug)]
pub(super) struct Slices {
    cores: Cores,
    ticks: u64,
    ends: Instant,
}

/// Latencies as they come.
#[derive(Debug)]
pub(super) struct Latencies {
    /// All, in nanoseconds.
    all: Histogram<u64>,
    /// Those of calm slices.
    calm: Histogram<u64>,
    /// Those of the slice that now is, and of the one before it, if there are slices.
    slices: Option<[Vec<u64>; 2]>,
    /// Whether anything was taken in the last three slices.
    taken: [bool; 3],
    ended: u32,
    were_calm: u32,
}

impl Slices {
    /// Slices from now on, of time on these cores.
    ///
    /// # Errors
    /// When the kernel does not tell what is taken.
    pub(super) fn from_now(cores: Cores) -> anyhow::Result<Self> {
        Ok(Self {
            cores,
            ticks: stolen_ticks(cores)?,
            ends: Instant::now() + SLICE,
        })
    }

    /// Whether anything was taken in the slice that has ended by `now`, if one has.
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
    /// None yet; with `slices`, calm ones are told apart.
    pub(super) fn new(slices: bool) -> Self {
        let none = Histogram::new_with_max(LONGEST, 3).expect("bounds that are right");
        Self {
            all: none.clone(),
            calm: none,
            slices: slices.then(Default::default),
            taken: [true; 3],
            ended: 0,
            were_calm: 0,
        }
    }

    /// Adds one that was answered now.
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.all.saturating_record(nanos);
        if let Some([now, _]) = &mut self.slices {
            now.push(nanos);
        }
    }

    /// A slice has ended, in which something was `taken` or not. What comes after the last one counts among all.
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

    /// Forgets all so far, but not how the last slices were.
    pub(super) fn reset(&mut self) {
        let taken = self.taken;
        *self = Self::new(self.slices.is_some());
        self.taken = taken;
    }

    /// All of them, in nanoseconds.
    pub(super) const fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Those of calm slices; all, if less than a fifth was calm.
    pub(super) fn calm(&self) -> &Histogram<u64> {
        if self.calm.is_empty() || self.calm_share() < ENOUGH {
            &self.all
        } else {
            &self.calm
        }
    }

    /// What share of the slices was calm.
    pub(super) fn calm_share(&self) -> f64 {
        f64::from(self.were_calm) / f64::from(self.ended.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies of 1 ms, 2 ms and so on, one for each slice.
    fn latencies(slices: &[bool]) -> Latencies {
        let mut latencies = Latencies::new(true);
        for (millis, taken) in (1..).zip(slices) {
            latencies.record(Duration::from_millis(millis));
            latencies.end_slice(*taken);
        }
        latencies
    }

    #[test]
    fn what_was_answered_beside_a_slice_that_was_taken_does_not_count() {
        // What came before the first is not known, nor what comes after the last.
        let latencies = latencies(&[false, false, false, true, false, false, false, false]);
        let calm = latencies.calm().iter_recorded();
        let calm: Vec<u64> = calm.map(|it| it.value_iterated_to() / 1_000_000).collect();
        assert_eq!(calm, [2, 6, 7]);
        assert_eq!(latencies.all().len(), 8);
        assert_eq!(latencies.calm_share(), 3.0 / 8.0);
    }

    #[test]
    fn where_hardly_a_slice_was_calm_all_count() {
        let mut slices = [true; 20];
        slices[4..7].fill(false);
        let latencies = latencies(&slices);
        assert_eq!(latencies.calm_share(), 1.0 / 20.0);
        assert_eq!(latencies.calm().len(), 20);
    }

    #[test]
    fn what_was_measured_before_a_reset_does_not_count() {
        let mut latencies = latencies(&[false; 5]);
        latencies.reset();
        assert!(latencies.all().is_empty());
        for _ in 0..2 {
            latencies.record(Duration::from_millis(9));
            latencies.end_slice(false);
        }
        // The first one follows calm slices.
        assert_eq!(latencies.calm().len(), 1);
    }
}
