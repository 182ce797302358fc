//! Unique or repeated: whether a visitor used a link before, within a window of time.
//!
//! Bloom filters in rotating generations, sharded, saved to files and brought up to date from the
//! journal. They err on the side of "repeated" at a promised rate, so their word only flags;
//! dropping or refusing anything because of it never belongs here.
//!
//! # Limits
//! A filter with more entries than it was made for errs more often than promised: what it alone finds is
//! unknown, not repeated. A network may add a share of a generation's entries; beyond it nothing is set,
//! and what is not found is unknown, not unique. So a flood from one network makes no visitor of another
//! repeated, and gains no unique visits.
//!
//! # Window
//! Time is cut into generations of `window / generations`. A visit is set in the generation of its
//! time and found in it and in the `generations` after it: for at least `window` and for at most
//! `window + window / generations`. Every visit counts anew, so the window slides.
//!
//! # Salts
//! A visitor's id changes with the period of [`Identity`](crate::visitor::identity::Identity), and
//! the id before is known too. So nothing is found that is older than two periods; a window longer
//! than one period is kept only in part.

mod clock;
mod shard;
mod sizing;
mod snapshot;

pub use sizing::{InvalidSettings, UniqueSettings};
pub use snapshot::{Saved, Snapshot};

use crate::networks::Networks;
use crate::visitor::address::Network;
use crate::visitor::identity::Ids;
use clock::Clock;
use shard::{Key, Seen, Shard};
use sizing::Plan;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracking_events::{LinkId, Micros, VisitorId};

/// Who used which link within the window; shared by all workers.
#[derive(Debug)]
pub struct Filters {
    plan: Plan,
    clock: Clock,
    networks: Networks,
    shards: Box<[Mutex<Shard>]>,
    saved: Mutex<snapshot::SavedState>,
}

/// A use of a link. Each kind is unique or repeated for itself: who saw a link's pixel has not
/// clicked it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
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
    /// Within the window, as far as the filters promise.
    Repeated,
    /// The filters can't tell: they have more entries than they were made for, or the visitor's network
    /// has added its share.
    Unknown,
}

/// How full the filters are.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Each generation held, oldest first.
    pub generations: Vec<GenerationStats>,
    /// The bytes of all bitmaps.
    pub memory_bytes: u64,
    /// The share of new visits that would be flagged as repeated now, as far as can be estimated
    /// from the entries.
    pub false_positive_rate: f64,
}

/// How full one generation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationStats {
    /// When it began, by the clock of the visits.
    pub since: Micros,
    /// How many visits were set that were not set before.
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
            clock: Clock::new(plan.span, plan.generations),
            networks: Networks::new(plan.network_keys),
            shards: (0..plan.shards).map(|_| Mutex::default()).collect(),
            saved: Mutex::default(),
            plan,
        })
    }

    /// Whether this visitor made the same use within the window before `now`, under either id; from now
    /// on it did, unless its network has added its share.
    ///
    /// Of visits at the same time on several threads exactly one is told that it is the first.
    pub fn check_and_set(&self, now: Micros, used: Use, ids: &Ids, network: Network) -> Uniqueness {
        let moment = self.clock.observe(now);
        let share = self.networks.share(network);
        let has_room = self.networks.has_room(share, moment.index);
        // Ids are remembered in the generation of their time: those of this period in the
        // generation in which it began and later, those of the one before in that one and earlier.
        // So each generation is asked for one id, and only the one of the turn for both.
        let turn = moment.shift(ids.since);
        let aligned = ids.since.0.is_multiple_of(self.plan.span);
        let current = Key::new(used, ids.current);
        let (mut seen, added) = if has_room {
            self.shard(current).visit(&self.plan, moment, turn, current)
        } else {
            (
                self.shard(current)
                    .look(&self.plan, moment, turn.., current),
                false,
            )
        };
        if added {
            self.networks.add(share, moment.index);
        }
        let last = if aligned {
            turn.checked_sub(1)
        } else {
            Some(turn)
        };
        if let Some(last) = last
            && last >= moment.oldest
            && seen < Seen::Surely
        {
            let previous = Key::new(used, ids.previous.get());
            seen = seen.max(
                self.shard(previous)
                    .look(&self.plan, moment, ..=last, previous),
            );
        }
        match seen {
            Seen::Surely => Uniqueness::Repeated,
            Seen::Perhaps => Uniqueness::Unknown,
            Seen::Never if has_room => Uniqueness::Unique,
            Seen::Never => Uniqueness::Unknown,
        }
    }

    /// Brings a visit from the journal back that the snapshot did not see. One older than the
    /// window is ignored; one from the future counts as of now.
    pub fn replay(&self, time: Micros, used: Use, visitor: VisitorId) {
        if let Some(moment) = self.clock.recall(time) {
            let key = Key::new(used, visitor);
            self.shard(key).set(&self.plan, moment, key);
        }
    }

    /// How full the filters are; looks at every shard for a moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let moment = self.clock.newest();
        let mut sums = BTreeMap::<u64, Sum>::new();
        let mut memory_bytes = 0;
        for shard in &self.shards {
            let shard = lock(shard);
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

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[key.shard(self.shards.len())])
    }
}

#[derive(Default)]
struct Sum {
    entries: u64,
    fill: f64,
    false_positives: f64,
}

/// A panic while a lock was held can't leave a filter worse than with a visit too many or few.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
