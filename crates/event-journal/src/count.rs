//! How many events a lane holds in a range of sequences, without reading them.

use crate::reader::LaneReader;
use crate::segment::{FRAMES_OFFSET, Segment};
use std::iter::Sum;
use std::sync::Arc;
use storage::Storage;

/// Events of a journal, and the bytes of their frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCount {
    /// The number of events.
    pub events: u64,
    /// The bytes of their frames, estimated where a segment also holds others.
    pub bytes: u64,
}

impl Sum for EventCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            events: sum.events + count.events,
            bytes: sum.bytes + count.bytes,
        })
    }
}

impl<S: Storage> LaneReader<S> {
    /// Counts the events after the sequence `after` up to `through`. Damaged events in between are counted, too.
    #[must_use]
    pub fn count_between(&self, after: u64, through: u64) -> EventCount {
        let lane = &self.lane;
        let segments = lane.segments.lock();
        // One process assigns sequences without gaps.
        let mut next = lane.first_own_seq().max(self.deleted_through + 1);
        let count = |segment: &Arc<Segment<S::File>>| {
            let (first, last) = match segment.recovered_first {
                0 => (next, segment.last()),
                first => (first, segment.last()),
            };
            if segment.recovered_first == 0 {
                next = next.max(last + 1);
            }
            let frames = u64::from(segment.end().saturating_sub(FRAMES_OFFSET));
            count_in(first, last, frames, (after, through))
        };
        segments.iter().map(count).sum()
    }
}

fn count_in(first: u64, last: u64, frames: u64, (after, through): (u64, u64)) -> EventCount {
    let all = (last + 1).saturating_sub(first);
    let counted = (last.min(through) + 1).saturating_sub(first.max(after.saturating_add(1)));
    EventCount {
        events: counted,
        bytes: frames * counted / all.max(1),
    }
}
