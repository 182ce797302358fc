//! The aggregator's memory of lanes: what it accepted, what ClickHouse has. No files, no sockets.

use crate::{BatchHeader, LaneHello, LaneKey, LaneState};
use std::collections::BTreeMap;
use thiserror::Error;

/// Where every lane ever met stands.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    lanes: BTreeMap<LaneKey, Marks>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    received: u64,
    taken: u64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: accept it, but leave out its events up to and including `skip_through`.
    Accept {
        /// The highest sequence that was accepted before.
        skip_through: u64,
    },
    /// All of it was accepted before; drop it and repeat how much ClickHouse has.
    Duplicate {
        /// The highest sequence that ClickHouse has.
        taken: u64,
    },
}

/// Events before a batch are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a batch comes after sequence {after}, but only {received} was received; start again")]
pub struct Gap {
    /// The highest sequence received.
    pub received: u64,
    /// The batch's `after`.
    pub after: u64,
}

/// A lane that was never introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} was not introduced by a Hello")]
pub struct UnknownLane(pub LaneKey);

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OfferError {
    /// Its lane is not known.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// Its predecessor is missing.
    #[error(transparent)]
    Gap(#[from] Gap),
}

impl Lanes {
    /// Remembers a lane from a checkpoint: ClickHouse has it up to and including `taken`.
    pub fn restore(&mut self, key: LaneKey, taken: u64) {
        let marks = self.lanes.entry(key).or_default();
        marks.taken = marks.taken.max(taken);
        marks.received = marks.received.max(marks.taken);
    }

    /// Remembers a batch that is safe in a block left over from an earlier run.
    pub fn recover(&mut self, key: LaneKey, last: u64) {
        let marks = self.lanes.entry(key).or_default();
        marks.received = marks.received.max(last);
    }

    /// Meets a lane and says where it stands. What the edge says was acknowledged was in
    /// ClickHouse before it was acknowledged, so it counts as taken even if forgotten here.
    pub fn hello(&mut self, node: u16, lane: &LaneHello) -> LaneState {
        let key = LaneKey {
            node,
            lane: lane.lane,
            journal: lane.journal,
        };
        self.restore(key, lane.released);
        let Marks { received, taken } = self.lanes[&key];
        LaneState {
            lane: lane.lane,
            journal: lane.journal,
            received,
            taken,
        }
    }

    /// Judges a batch, and counts it as received when it is to be accepted.
    ///
    /// # Errors
    /// When its lane is not known or events before it are missing; nothing changes then.
    pub fn offer(&mut self, node: u16, header: &BatchHeader) -> Result<Verdict, OfferError> {
        let key = header.key(node);
        let marks = self.lanes.get_mut(&key).ok_or(UnknownLane(key))?;
        if header.last <= marks.received {
            return Ok(Verdict::Duplicate { taken: marks.taken });
        }
        if header.after > marks.received {
            return Err(Gap {
                received: marks.received,
                after: header.after,
            }
            .into());
        }
        let skip_through = marks.received;
        marks.received = header.last;
        Ok(Verdict::Accept { skip_through })
    }

    /// ClickHouse has a lane up to and including `through`.
    pub fn take(&mut self, key: LaneKey, through: u64) {
        let marks = self.lanes.entry(key).or_default();
        marks.taken = marks.taken.max(through);
        marks.received = marks.received.max(through);
    }

    /// Where a lane stands, if it is known.
    #[must_use]
    pub fn state(&self, key: LaneKey) -> Option<LaneState> {
        let Marks { received, taken } = *self.lanes.get(&key)?;
        Some(LaneState {
            lane: key.lane,
            journal: key.journal,
            received,
            taken,
        })
    }

    /// How many lanes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no lane is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Every lane with the highest sequence that ClickHouse has of it, in the order of the keys.
    pub fn taken(&self) -> impl Iterator<Item = (LaneKey, u64)> + '_ {
        self.lanes.iter().map(|(key, marks)| (*key, marks.taken))
    }
}
