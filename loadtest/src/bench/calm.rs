//! Latencies of the time in which the machine's host took nothing away for other machines. A virtual machine
//! whose core is taken for 10 ms answers nobody meanwhile: what is measured then is the host. Which slices of
//! time count is decided by what the kernel says of them, never by what was measured.

use super::machine::{Cores, Stolen};
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant};

/// How long a slice is. Of the neighbours of one in which time was taken neither counts: the kernel's
/// figures go up after the fact, and who waited then is answered later.
const SLICE: Duration = Duration::from_millis(50);
/// Latencies are kept up to this, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Says which slices of time have ended, and whether anything was taken in them.
#[derive(Debug)]
pub(super) struct Slices {
    cores: Option<Cores>,
    since: Option<Stolen>,
    ends: Instant,
}

/// Latencies as they come, in nanoseconds.
#[derive(Debug)]
pub(super) struct Latencies {
    /// All.
    all: Histogram<u64>,
    /// Those of calm slices.
    calm: Histogram<u64>,
    /// Those of the slice that now is, and of the one before it.
    now: Vec<u64>,
    before: Vec<u64>,
    /// Whether anything was taken in the last three slices.
    taken: [bool; 3],
    slices: u32,
    calm_slices: u32,
}

impl Slices {
    /// Slices from now on, of time on these cores; without any, nothing is taken.
    ///
    /// # Errors
    /// When the kernel does not tell what is taken.
    pub(super) fn from_now(cores: Option<Cores>) -> anyhow::Result<Self> {
        Ok(Self {
            cores,
            since: cores.map(Stolen::from_now).transpose()?,
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
        let taken = self.since.map_or(Ok(0.0), Stolen::share)? > 0.0;
        *self = Self::from_now(self.cores)?;
        Ok(Some(taken))
    }
}

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never: the bounds are right.
    pub(super) fn new() -> anyhow::Result<Self> {
        let none = Histogram::new_with_max(LONGEST, 3)?;
        Ok(Self {
            all: none.clone(),
            calm: none,
            now: Vec::new(),
            before: Vec::new(),
            taken: [true; 3],
            slices: 0,
            calm_slices: 0,
        })
    }

    /// Adds one that was answered now.
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.all.saturating_record(nanos);
        self.now.push(nanos);
    }

    /// A slice has ended, in which something was `taken` or not.
    pub(super) fn end_slice(&mut self, taken: bool) {
        let [_, second, third] = self.taken;
        self.taken = [second, third, taken];
        let before = mem::replace(&mut self.before, mem::take(&mut self.now));
        self.slices += 1;
        if self.taken == [false; 3] {
            self.calm_slices += 1;
            for nanos in before {
                self.calm.saturating_record(nanos);
            }
        }
    }

    /// Forgets all so far, but not how the last slices were.
    pub(super) fn reset(&mut self) {
        self.all.reset();
        self.calm.reset();
        self.now.clear();
        self.before.clear();
        (self.slices, self.calm_slices) = (0, 0);
    }

    /// All of them.
    pub(super) const fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Those of calm slices; all, if no slice was calm.
    pub(super) fn calm(&self) -> &Histogram<u64> {
        if self.calm.is_empty() {
            &self.all
        } else {
            &self.calm
        }
    }

    /// What share of the slices was calm.
    pub(super) fn calm_share(&self) -> f64 {
        f64::from(self.calm_slices) / f64::from(self.slices.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_beside_a_slice_that_was_taken_does_not_count() {
        let mut latencies = Latencies::new().expect("bounds");
        // What came before is not known, and what comes after the last one neither.
        let slices = [false, false, false, true, false, false, false, false];
        for (millis, taken) in (1..).zip(slices) {
            latencies.record(Duration::from_millis(millis));
            latencies.end_slice(taken);
        }
        let calm = latencies.calm().iter_recorded();
        let calm: Vec<u64> = calm.map(|it| it.value_iterated_to() / 1_000_000).collect();
        assert_eq!(calm, [2, 6, 7]);
        assert_eq!(latencies.all().len(), 8);
        assert_eq!(latencies.calm_share(), 3.0 / 8.0);
    }

    #[test]
    fn without_a_calm_slice_all_count() {
        let mut latencies = Latencies::new().expect("bounds");
        latencies.record(Duration::from_millis(1));
        latencies.end_slice(true);
        assert_eq!(latencies.calm().len(), 1);
        assert_eq!(latencies.calm_share(), 0.0);
    }
}
