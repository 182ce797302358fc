//! The progress of each lane, shared with the task that saves the filters.

use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of each lane.
#[derive(Debug)]
pub struct ShippingProgress {
    lanes: Vec<LaneProgress>,
}

#[derive(Debug)]
struct LaneProgress {
    lane: u8,
    sealed: AtomicU64,
    covered: AtomicU64,
}

impl ShippingProgress {
    /// `lanes` holds for each lane the last sequence that the saved filters contain.
    #[must_use]
    pub fn new(lanes: impl Iterator<Item = (u8, u64)>) -> Self {
        let progress = |(lane, covered)| LaneProgress {
            lane,
            sealed: AtomicU64::new(covered),
            covered: AtomicU64::new(covered),
        };
        Self {
            lanes: lanes.map(progress).collect(),
        }
    }

    /// The last sealed sequence of each lane. Filters that are saved after this call contain at least these events: an
    /// event enters the filters before it enters the journal.
    #[must_use]
    pub fn sealed(&self) -> Vec<(u8, u64)> {
        self.lanes
            .iter()
            .map(|lane| (lane.lane, lane.sealed.load(Ordering::Acquire)))
            .collect()
    }

    /// Filters that contain the lanes up to `marks` are saved: the journal need not keep those events for them.
    pub fn covered(&self, marks: &[(u8, u64)]) {
        for (lane, through) in marks {
            if let Some(known) = self.find(*lane) {
                known.covered.fetch_max(*through, Ordering::AcqRel);
            }
        }
    }

    /// The lane was sealed up to `through`, or need not be sealed that far.
    pub(super) fn sealed_through(&self, lane: u8, through: u64) {
        if let Some(known) = self.find(lane) {
            known.sealed.fetch_max(through, Ordering::AcqRel);
        }
    }

    /// The last sequence of the lane in the saved filters; `u64::MAX` for lanes without visits.
    pub(super) fn covered_through(&self, lane: u8) -> u64 {
        let covered = |known: &LaneProgress| known.covered.load(Ordering::Acquire);
        self.find(lane).map_or(u64::MAX, covered)
    }

    fn find(&self, lane: u8) -> Option<&LaneProgress> {
        self.lanes.iter().find(|known| known.lane == lane)
    }
}
