//! The aggregator's state of lanes: the sequences received and those stored in ClickHouse.
//!
//! Invariant: no files, no sockets.
//! Invariant: a `Hello` adds no lane and moves no sequence; only an accepted batch does.

use crate::{BatchHeader, LaneHello, LaneKey, LaneState};
use std::collections::BTreeMap;
use thiserror::Error;

/// Limits of the lane table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneBounds {
    /// The maximum number of lanes of all nodes.
    pub lanes: usize,
    /// The maximum number of lanes of one node.
    pub lanes_per_node: usize,
    /// After this many days without an edge that names it a complete lane is removed.
    pub forget_after_days: u16,
}

/// The state of every known lane.
#[derive(Debug, Clone)]
pub struct LaneTable {
    lanes: BTreeMap<LaneKey, LaneProgress>,
    bounds: LaneBounds,
    /// The day observed last, counted from 1970; 0 before the first.
    day: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct LaneProgress {
    received: u64,
    taken: u64,
    idle_days: u16,
}

/// A lane's state as stored in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneCheckpoint {
    /// The lane.
    pub key: LaneKey,
    /// The highest sequence stored in ClickHouse.
    pub taken: u64,
    /// The number of days without an edge that names the lane.
    pub idle_days: u16,
}

/// How the acknowledged sequence of a [`LaneHello`] compares with this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimResult {
    /// The lane is known and was received at least up to the claimed sequence.
    Confirmed,
    /// The lane is not known: it continues after the claimed sequence once a batch arrives.
    Accepted,
    /// The lane is known and was received less far. The claim is ignored: either it is false, or this
    /// table is older than the acknowledgement. A correct edge moves to another journal id.
    Ignored,
}

/// The decision about a valid batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchDecision {
    /// The batch has new events: accept it, but skip events up to and including `skip_through`.
    Accept {
        /// The highest sequence accepted before.
        skip_through: u64,
    },
    /// Every event was accepted before: drop the batch and repeat the acknowledgement.
    Duplicate {
        /// The highest sequence stored in ClickHouse.
        taken: u64,
    },
}

/// Events before a batch are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batch follows sequence {after}, but only {received} was received; reconnect")]
pub struct SequenceGap {
    /// The highest sequence received.
    pub received: u64,
    /// The batch's `after`.
    pub after: u64,
}

/// A batch of a lane that the `Hello` did not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} is not in the connection's Hello")]
pub struct UnknownLane(pub LaneKey);

/// The lane table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the maximum number of lanes of node {node}, or of all nodes, is reached; raise \
     limits.max_lanes_per_node or limits.max_lanes"
)]
pub struct TooManyLanes {
    /// The node with another lane.
    pub node: u16,
}

/// Why a batch is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OfferError {
    /// The batch's lane is not known.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// Earlier events are missing.
    #[error(transparent)]
    Gap(#[from] SequenceGap),
    /// The lane is new and the table is full.
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

impl Default for LaneTable {
    fn default() -> Self {
        Self::new(LaneBounds::default(), 0)
    }
}

impl LaneTable {
    /// An empty table; `day` is the day of the checkpoint from which lanes are restored, or 0.
    #[must_use]
    pub const fn new(bounds: LaneBounds, day: u32) -> Self {
        Self {
            lanes: BTreeMap::new(),
            bounds,
            day,
        }
    }

    /// Restores a lane from a checkpoint.
    pub fn restore(&mut self, lane: &LaneCheckpoint) {
        let progress = self.lanes.entry(lane.key).or_default();
        progress.taken = progress.taken.max(lane.taken);
        progress.received = progress.received.max(progress.taken);
        progress.idle_days = lane.idle_days;
    }

    /// Records a batch that an earlier process stored in a block.
    pub fn recover(&mut self, key: LaneKey, last: u64) {
        let progress = self.lanes.entry(key).or_default();
        progress.received = progress.received.max(last);
    }

    /// Checks that the lanes of a `Hello` fit into the table; complete lanes of the same node do not
    /// count, because they can be removed.
    ///
    /// # Errors
    /// When the lanes do not fit.
    pub fn check_capacity(&self, node: u16, lanes: &[LaneHello]) -> Result<(), TooManyLanes> {
        let is_new = |lane: &&LaneHello| !self.lanes.contains_key(&key_of(node, lane));
        let new = lanes.iter().filter(is_new).count();
        let complete = self
            .of_node(node)
            .filter(|(_, progress)| progress.is_complete());
        if self.has_capacity(node, new.saturating_sub(complete.count())) {
            Ok(())
        } else {
            Err(TooManyLanes { node })
        }
    }

    /// Returns a lane's state and how the edge's claim compares with it. For an unknown lane the claim
    /// is the only source: acknowledged events were stored in ClickHouse before.
    pub fn hello(&mut self, node: u16, lane: &LaneHello) -> (LaneState, ClaimResult) {
        let key = key_of(node, lane);
        let claimed = lane.acknowledged;
        let (progress, claim) = match self.lanes.get_mut(&key) {
            Some(progress) => {
                progress.idle_days = 0;
                let confirmed = claimed <= progress.received;
                let claim = if confirmed {
                    ClaimResult::Confirmed
                } else {
                    ClaimResult::Ignored
                };
                (*progress, claim)
            }
            None => (LaneProgress::claimed(claimed), ClaimResult::Accepted),
        };
        (progress.state(key), claim)
    }

    /// Decides about a batch and records it as received if it is accepted; `welcomed` is the lane's
    /// state in the connection's `Welcome`.
    ///
    /// # Errors
    /// When events before the batch are missing or the table is full; nothing changes then.
    pub fn offer(
        &mut self,
        node: u16,
        welcomed: &LaneState,
        header: &BatchHeader,
    ) -> Result<BatchDecision, OfferError> {
        let key = header.key(node);
        let known = self.lanes.get(&key).copied();
        let mut progress = known.unwrap_or_else(|| LaneProgress::claimed(welcomed.received));
        if header.last <= progress.received {
            return Ok(BatchDecision::Duplicate {
                taken: progress.taken,
            });
        }
        if header.after > progress.received {
            return Err(SequenceGap {
                received: progress.received,
                after: header.after,
            }
            .into());
        }
        if known.is_none() {
            self.make_capacity(node)?;
        }
        let skip_through = progress.received;
        progress.received = header.last;
        progress.idle_days = 0;
        self.lanes.insert(key, progress);
        Ok(BatchDecision::Accept { skip_through })
    }

    /// Records that ClickHouse stores a lane up to and including `through`.
    pub fn take(&mut self, key: LaneKey, through: u64) {
        let progress = self.lanes.entry(key).or_default();
        progress.taken = progress.taken.max(through);
        progress.received = progress.received.max(through);
    }

    /// On a new `day`, removes complete lanes that were idle for too long and returns their number.
    /// Only observed days count: a clock that steps forward by years ages lanes by one day.
    pub fn observe_day(&mut self, day: u32) -> usize {
        let before = std::mem::replace(&mut self.day, day);
        if before == day || before == 0 {
            return 0;
        }
        let known = self.lanes.len();
        let limit = self.bounds.forget_after_days;
        self.lanes.retain(|_, progress| {
            progress.idle_days = progress.idle_days.saturating_add(1);
            !progress.is_complete() || progress.idle_days <= limit
        });
        known - self.lanes.len()
    }

    /// The day observed last, counted from 1970; 0 before the first.
    #[must_use]
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// A lane's state, if the lane is known.
    #[must_use]
    pub fn state(&self, key: LaneKey) -> Option<LaneState> {
        self.lanes.get(&key).map(|progress| progress.state(key))
    }

    /// The number of known lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no lane is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Every lane for a checkpoint, in the order of the keys.
    pub fn checkpoints(&self) -> impl Iterator<Item = LaneCheckpoint> + '_ {
        self.lanes.iter().map(|(key, progress)| LaneCheckpoint {
            key: *key,
            taken: progress.taken,
            idle_days: progress.idle_days,
        })
    }

    /// Makes space for another lane of a node by removing its complete lane with the longest idle time.
    /// Each process of an edge has lanes of its own, and many restarts must not lock out the edge.
    fn make_capacity(&mut self, node: u16) -> Result<(), TooManyLanes> {
        if self.has_capacity(node, 1) {
            return Ok(());
        }
        let complete = self
            .of_node(node)
            .filter(|(_, progress)| progress.is_complete());
        let longest = complete.max_by_key(|(_, progress)| progress.idle_days);
        let key = longest.map(|(key, _)| *key).ok_or(TooManyLanes { node })?;
        self.lanes.remove(&key);
        Ok(())
    }

    fn has_capacity(&self, node: u16, lanes: usize) -> bool {
        lanes == 0
            || (self.lanes.len().saturating_add(lanes) <= self.bounds.lanes
                && self.of_node(node).count().saturating_add(lanes) <= self.bounds.lanes_per_node)
    }

    fn of_node(&self, node: u16) -> impl Iterator<Item = (&LaneKey, &LaneProgress)> {
        let end = |lane, journal| LaneKey {
            node,
            lane,
            journal,
        };
        self.lanes.range(end(0, 0)..=end(u8::MAX, u64::MAX))
    }
}

impl LaneProgress {
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
