//! Decides whether a visit is unique: whether its visitor used the link before, within a time window.
//!
//! Bloom filters in rotating generations, sharded, saved to files and updated from the journal at start. They report
//! new visits as repeated at a bounded rate, so that their result is only a mark; dropping or refusing visits because
//! of it never belongs here.
//!
//! # Limits
//! A filter with more entries than its capacity errs more often than the bound: a visit found only there is unknown,
//! not repeated. A network may add a share of a generation's entries; beyond it nothing is set, and a visit that is
//! not found is unknown, not unique. So a flood from one network makes no visitor of another repeated, and gains no
//! unique visits.
//!
//! # Window
//! Time is divided into generations of `window / generations`. A visit is set in the generation of its time and found
//! in it and in the `generations` after it: for at least `window` and at most `window + window / generations`. Every
//! visit restarts its window.
//!
//! # Salts
//! A visitor's id changes with the period of [`Identity`](crate::visitor::identity::Identity), and the previous id is
//! known, too. So nothing older than two periods is found; a window longer than one period is kept only in part.

mod generation_clock;
mod shard;
mod sizing;
mod snapshot;

pub use sizing::{InvalidSettings, UniqueSettings};
pub use snapshot::{SaveStats, Snapshot};

use crate::network_quota::NetworkQuota;
use crate::visitor::address::Network;
use crate::visitor::identity::VisitorIds;
use domain::{LinkId, Micros, VisitorId};
use generation_clock::GenerationClock;
use parking_lot::{Mutex, MutexGuard};
use shard::{Membership, Shard, VisitKey};
use sizing::Plan;
use std::collections::BTreeMap;

/// The visitors of each link within the window; shared by all workers.
#[derive(Debug)]
pub struct Filters {
    plan: Plan,
    clock: GenerationClock,
    networks: NetworkQuota,
    /// A panic under a lock leaves a filter with at most one visit too many or too few.
    shards: Box<[Mutex<Shard>]>,
    saved: Mutex<snapshot::SavedState>,
}

/// A use of a link. Clicks and impressions are unique independently: a visitor that saw a link's pixel has not clicked
/// it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkUse {
    /// The link was followed.
    Click(LinkId),
    /// The link's pixel was shown.
    Impression(LinkId),
}

/// Whether a visitor used a link before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uniqueness {
    /// Not within the window.
    Unique,
    /// Within the window, up to the filters' error rate.
    Repeated,
    /// Undecidable: the filters are above their capacity, or the visitor's network has used its share.
    Unknown,
}

/// The fill of all filters.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Each generation held, oldest first.
    pub generations: Vec<GenerationStats>,
    /// The bytes of all bitmaps.
    pub memory_bytes: u64,
    /// The share of new visits that would be marked as repeated now, estimated from the entries.
    pub false_positive_rate: f64,
}

/// The fill of one generation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationStats {
    /// Its start, by the clock of the visits.
    pub since: Micros,
    /// Visits that were new when they were set.
    pub entries: u64,
    /// The share of bits set, estimated.
    pub fill: f64,
}

impl Filters {
    /// Empty filters.
    ///
    /// # Errors
    /// When `settings` are out of range or ask for more memory than they allow.
    pub fn new(settings: &UniqueSettings) -> Result<Self, InvalidSettings> {
        let plan = Plan::new(settings)?;
        Ok(Self {
            clock: GenerationClock::new(plan.span, plan.generations),
            networks: NetworkQuota::new(plan.network_keys),
            shards: (0..plan.shards).map(|_| Mutex::default()).collect(),
            saved: Mutex::default(),
            plan,
        })
    }

    /// Whether this visitor made the same use within the window before `now`, under either id. Then sets the visit,
    /// unless its network has used its share.
    ///
    /// Of simultaneous visits on several threads exactly one is unique.
    pub fn check_and_set(
        &self,
        now: Micros,
        used: LinkUse,
        ids: &VisitorIds,
        network: Network,
    ) -> Uniqueness {
        let moment = self.clock.observe(now);
        let counters = self.networks.counters_of(network);
        let has_room = self.networks.has_room(counters, moment.index);
        // Ids are set in the generation of their time: current ids in the generation in which their period began
        // and later, previous ids in that one and earlier. So each generation is searched for one id, and only the
        // one of the rotation for both.
        let rotation = moment.shift(ids.since);
        let aligned = ids.since.0.is_multiple_of(self.plan.span);
        let current = VisitKey::new(used, ids.current);
        let (mut seen, added) = if has_room {
            self.shard(current)
                .set_and_find(&self.plan, moment, rotation, current)
        } else {
            (
                self.shard(current)
                    .find(&self.plan, moment, rotation.., current),
                false,
            )
        };
        if added {
            self.networks.add(counters, moment.index);
        }
        let last = if aligned {
            rotation.checked_sub(1)
        } else {
            Some(rotation)
        };
        if let Some(last) = last
            && last >= moment.oldest
            && seen < Membership::Certain
        {
            let previous = VisitKey::new(used, ids.previous.get());
            seen = seen.max(
                self.shard(previous)
                    .find(&self.plan, moment, ..=last, previous),
            );
        }
        match seen {
            Membership::Certain => Uniqueness::Repeated,
            Membership::Possible => Uniqueness::Unknown,
            Membership::Absent if has_room => Uniqueness::Unique,
            Membership::Absent => Uniqueness::Unknown,
        }
    }

    /// Sets a visit of the journal that the snapshot lacks. One older than the window is ignored; one from the future
    /// counts as of now.
    pub fn replay(&self, time: Micros, used: LinkUse, visitor: VisitorId) {
        if let Some(moment) = self.clock.recall(time) {
            let key = VisitKey::new(used, visitor);
            self.shard(key).set(&self.plan, moment, key);
        }
    }

    /// The fill of the filters; locks every shard briefly.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let moment = self.clock.newest();
        let mut sums = BTreeMap::<u64, Sum>::new();
        let mut memory_bytes = 0;
        for shard in &self.shards {
            let shard = shard.lock();
            for generation in shard.live(moment.oldest) {
                let fill = self.plan.fill(generation.entries);
                let sum = sums.entry(generation.index).or_default();
                sum.entries += generation.entries;
                sum.fill += fill;
                sum.false_positives += self.plan.false_positives(fill);
                memory_bytes += self.plan.bytes as u64;
            }
        }
        let shards = self.shards.len() as f64;
        let none = sums
            .values()
            .map(|sum| 1.0 - sum.false_positives / shards)
            .product::<f64>();
        let generations = sums.iter().map(|(index, sum)| GenerationStats {
            since: moment.start_of(*index, self.plan.span),
            entries: sum.entries,
            fill: sum.fill / shards,
        });
        Stats {
            generations: generations.collect(),
            memory_bytes,
            false_positive_rate: 1.0 - none,
        }
    }

    fn shard(&self, key: VisitKey) -> MutexGuard<'_, Shard> {
        self.shards[key.shard(self.shards.len())].lock()
    }
}

#[derive(Default)]
struct Sum {
    entries: u64,
    fill: f64,
    false_positives: f64,
}

#[cfg(test)]
mod tests;
