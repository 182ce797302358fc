//! The aggregator's memory of lanes: what it accepted, what ClickHouse has. No files, no sockets.
//!
//! Invariant: a `Hello` changes nothing that is remembered; only an accepted batch does.

use crate::{BatchHeader, LaneHello, LaneKey, LaneState};
use std::collections::BTreeMap;
use thiserror::Error;

/// How much may be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneBounds {
    /// Lanes over all nodes.
    pub lanes: usize,
    /// Lanes of one node.
    pub lanes_per_node: usize,
    /// A complete lane that no edge mentioned on this many days is forgotten.
    pub forget_after_days: u16,
}

/// Where every known lane stands.
#[derive(Debug, Clone)]
pub struct Lanes {
    lanes: BTreeMap<LaneKey, Marks>,
    bounds: LaneBounds,
    /// The day that is under way, counted from 1970; 0 before the first.
    day: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    received: u64,
    taken: u64,
    idle_days: u16,
}

/// A lane as a checkpoint remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedLane {
    /// The lane.
    pub key: LaneKey,
    /// The highest sequence that ClickHouse has.
    pub taken: u64,
    /// On how many days no edge has mentioned it.
    pub idle_days: u16,
}

/// What became of the sequence that a [`LaneHello`] says was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The lane is known and was received at least that far.
    Confirmed,
    /// The lane is not known: it continues after the claim once a batch does.
    Accepted,
    /// The lane is known and was received less far. The claim is ignored: either it is false, or this
    /// memory is older than the acknowledgement. An honest edge moves to another journal id.
    Ignored,
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

/// No room for another lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "as many lanes as allowed are known, of node {node} or of all; raise limits.max_lanes_per_node or \
     limits.max_lanes"
)]
pub struct TooManyLanes {
    /// The node that has another lane.
    pub node: u16,
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OfferError {
    /// Its lane is not known.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// Its predecessor is missing.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// Its lane is new and there are too many.
    #[error(transparent)]
    TooManyLanes(#[from] TooManyLanes),
}

impl Default for LaneBounds {
    fn default() -> Self {
        Self {
            lanes: usize::MAX,
            lanes_per_node: usize::MAX,
            forget_after_days: u16::MAX,
        }
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new(LaneBounds::default(), 0)
    }
}

impl Lanes {
    /// No lanes; `day` is the day of the checkpoint that they are then restored from, or 0.
    #[must_use]
    pub const fn new(bounds: LaneBounds, day: u32) -> Self {
        Self {
            lanes: BTreeMap::new(),
            bounds,
            day,
        }
    }

    /// Remembers a lane from a checkpoint.
    pub fn restore(&mut self, lane: &RememberedLane) {
        let marks = self.lanes.entry(lane.key).or_default();
        marks.taken = marks.taken.max(lane.taken);
        marks.received = marks.received.max(marks.taken);
        marks.idle_days = lane.idle_days;
    }

    /// Remembers a batch that is safe in a block left over from an earlier run.
    pub fn recover(&mut self, key: LaneKey, last: u64) {
        let marks = self.lanes.entry(key).or_default();
        marks.received = marks.received.max(last);
    }

    /// Whether the lanes of a `Hello` fit into the bounds beside those that are known, complete ones of the
    /// same node not counted.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_room(&self, node: u16, lanes: &[LaneHello]) -> Result<(), TooManyLanes> {
        let is_new = |lane: &&LaneHello| !self.lanes.contains_key(&key_of(node, lane));
        let new = lanes.iter().filter(is_new).count();
        let complete = self.of_node(node).filter(|(_, marks)| marks.is_complete());
        if self.has_room(node, new.saturating_sub(complete.count())) {
            Ok(())
        } else {
            Err(TooManyLanes { node })
        }
    }

    /// Says where a lane stands, and what became of the edge's claim. Of an unknown lane the edge's word
    /// is the only one: what was acknowledged was in ClickHouse before.
    pub fn hello(&mut self, node: u16, lane: &LaneHello) -> (LaneState, Claim) {
        let key = key_of(node, lane);
        let claimed = lane.acknowledged;
        let (marks, claim) = match self.lanes.get_mut(&key) {
            Some(marks) => {
                marks.idle_days = 0;
                let confirmed = claimed <= marks.received;
                let claim = if confirmed {
                    Claim::Confirmed
                } else {
                    Claim::Ignored
                };
                (*marks, claim)
            }
            None => (Marks::claimed(claimed), Claim::Accepted),
        };
        (marks.state(key), claim)
    }

    /// Judges a batch that came after its `Hello` was answered with `welcomed`, and counts it as received when
    /// it is to be accepted.
    ///
    /// # Errors
    /// When events before the batch are missing or there is no room for another lane; nothing changes then.
    pub fn offer(
        &mut self,
        node: u16,
        welcomed: &LaneState,
        header: &BatchHeader,
    ) -> Result<Verdict, OfferError> {
        let key = header.key(node);
        let known = self.lanes.get(&key).copied();
        let mut marks = known.unwrap_or_else(|| Marks::claimed(welcomed.received));
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
        if known.is_none() {
            self.make_room(node)?;
        }
        let skip_through = marks.received;
        marks.received = header.last;
        marks.idle_days = 0;
        self.lanes.insert(key, marks);
        Ok(Verdict::Accept { skip_through })
    }

    /// ClickHouse has a lane up to and including `through`.
    pub fn take(&mut self, key: LaneKey, through: u64) {
        let marks = self.lanes.entry(key).or_default();
        marks.taken = marks.taken.max(through);
        marks.received = marks.received.max(through);
    }

    /// Forgets complete lanes that were idle for too long when `day` is another than before, and returns
    /// how many. Only days that were observed count: a clock that steps forward by years ages lanes by
    /// one day.
    pub fn observe_day(&mut self, day: u32) -> usize {
        let before = std::mem::replace(&mut self.day, day);
        if before == day || before == 0 {
            return 0;
        }
        let known = self.lanes.len();
        let limit = self.bounds.forget_after_days;
        self.lanes.retain(|_, marks| {
            marks.idle_days = marks.idle_days.saturating_add(1);
            !marks.is_complete() || marks.idle_days <= limit
        });
        known - self.lanes.len()
    }

    /// The day observed last, counted from 1970; 0 before the first.
    #[must_use]
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// Where a lane stands, if it is known.
    #[must_use]
    pub fn state(&self, key: LaneKey) -> Option<LaneState> {
        self.lanes.get(&key).map(|marks| marks.state(key))
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

    /// Every lane as a checkpoint remembers it, in the order of the keys.
    pub fn remembered(&self) -> impl Iterator<Item = RememberedLane> + '_ {
        self.lanes.iter().map(|(key, marks)| RememberedLane {
            key: *key,
            taken: marks.taken,
            idle_days: marks.idle_days,
        })
    }

    /// Each process of an edge has lanes of its own. So that many restarts lock out no edge, its complete lane
    /// that was idle the longest gives way when there is no room.
    fn make_room(&mut self, node: u16) -> Result<(), TooManyLanes> {
        if self.has_room(node, 1) {
            return Ok(());
        }
        let complete = self.of_node(node).filter(|(_, marks)| marks.is_complete());
        let longest = complete.max_by_key(|(_, marks)| marks.idle_days);
        let key = longest.map(|(key, _)| *key).ok_or(TooManyLanes { node })?;
        self.lanes.remove(&key);
        Ok(())
    }

    fn has_room(&self, node: u16, lanes: usize) -> bool {
        lanes == 0
            || (self.lanes.len().saturating_add(lanes) <= self.bounds.lanes
                && self.of_node(node).count().saturating_add(lanes) <= self.bounds.lanes_per_node)
    }

    fn of_node(&self, node: u16) -> impl Iterator<Item = (&LaneKey, &Marks)> {
        let end = |lane, journal| LaneKey {
            node,
            lane,
            journal,
        };
        self.lanes.range(end(0, 0)..=end(u8::MAX, u64::MAX))
    }
}

impl Marks {
    fn claimed(acknowledged: u64) -> Self {
        Self {
            received: acknowledged,
            taken: acknowledged,
            ..Self::default()
        }
    }

    const fn is_complete(&self) -> bool {
        self.received == self.taken
    }

    const fn state(&self, key: LaneKey) -> LaneState {
        LaneState {
            lane: key.lane,
            journal: key.journal,
            received: self.received,
            taken: self.taken,
        }
    }
}

const fn key_of(node: u16, lane: &LaneHello) -> LaneKey {
    LaneKey {
        node,
        lane: lane.lane,
        journal: lane.journal,
    }
}
