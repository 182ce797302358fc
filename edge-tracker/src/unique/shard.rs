//! One shard: its part of every generation, and the keys set in them.

use super::Use;
use super::clock::Moment;
use super::sizing::Plan;
use bloomfilter::Bloom;
use std::ops::RangeBounds;
use tracking_events::VisitorId;

/// The filters' hash keys: fixed, so that a saved filter can be read after a restart. Nobody can
/// aim at them, for a visitor's id is already a hash under the fleet's secret.
pub(super) const SEED: [u8; 32] = *b"FanzFiliate unique visits seed 1";

/// A visitor's use of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// Mixes both into 64 bits. Ids are uniform, so two pairs meet by chance once in 2^64.
    pub(super) fn new(used: Use, visitor: VisitorId) -> Self {
        let used = match used {
            Use::Click(link) => u64::from(link.0) << 1,
            Use::Impression(link) => u64::from(link.0) << 1 | 1,
        };
        let mut mixed = visitor.0 ^ used.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ mixed >> 31)
    }

    /// The shard among `shards`, a power of two. The filter hashes the key with SipHash, so its
    /// bits don't depend on these.
    pub(super) fn shard(self, shards: usize) -> usize {
        (self.0 >> 40) as usize & (shards - 1)
    }
}

/// One shard's part of a generation.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) index: u64,
    /// How many keys were set that seemed new. Bits change exactly when this does.
    pub(super) entries: u64,
    pub(super) bloom: Bloom<u64>,
}

impl Generation {
    /// What it means when the filter finds a key.
    const fn finds(&self, plan: &Plan) -> Seen {
        if self.entries > plan.keys {
            Seen::Perhaps
        } else {
            Seen::Surely
        }
    }
}

fn seen_in<'g>(plan: &Plan, generations: impl Iterator<Item = &'g Generation>, key: Key) -> Seen {
    let mut seen = Seen::Never;
    for generation in generations {
        if generation.bloom.check(&key.0) {
            seen = seen.max(generation.finds(plan));
            if seen == Seen::Surely {
                break;
            }
        }
    }
    seen
}

/// Whether a key was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Never,
    /// Only filters with more entries than they were made for say so.
    Perhaps,
    /// As surely as a filter is made for.
    Surely,
}

/// One shard's generations, newest first; made when the first visit comes.
#[derive(Debug, Default)]
pub(super) struct Shard {
    generations: Vec<Generation>,
}

impl Shard {
    /// Sets `key` at its moment: whether it was set there or in another generation since `turn`, and
    /// whether it was added to that of its moment.
    pub(super) fn visit(
        &mut self,
        plan: &Plan,
        moment: Moment,
        turn: u64,
        key: Key,
    ) -> (Seen, bool) {
        let here = self.set(plan, moment, key);
        if here == Seen::Surely {
            return (here, false);
        }
        let others = self
            .generations
            .iter()
            .filter(|generation| generation.index != moment.index && generation.index >= turn);
        (here.max(seen_in(plan, others, key)), here == Seen::Never)
    }

    /// Whether `key` is set in one of these generations.
    pub(super) fn look(
        &mut self,
        plan: &Plan,
        moment: Moment,
        generations: impl RangeBounds<u64>,
        key: Key,
    ) -> Seen {
        self.expire(moment.oldest);
        let asked = self.generations.iter();
        seen_in(
            plan,
            asked.filter(|it| generations.contains(&it.index)),
            key,
        )
    }

    /// Sets `key` at its moment; whether it was set there.
    pub(super) fn set(&mut self, plan: &Plan, moment: Moment, key: Key) -> Seen {
        self.expire(moment.oldest);
        let generation = self.at(plan, moment.index);
        let found = generation.finds(plan);
        if generation.bloom.check_and_set(&key.0) {
            return found;
        }
        generation.entries += 1;
        Seen::Never
    }

    /// The generations that count.
    pub(super) fn live(&self, oldest: u64) -> impl Iterator<Item = &Generation> {
        self.generations
            .iter()
            .filter(move |generation| generation.index >= oldest)
    }

    /// Puts back a generation that was saved.
    pub(super) fn restore(&mut self, generation: Generation) {
        let place = self.place(generation.index);
        self.generations.insert(place, generation);
    }

    fn expire(&mut self, oldest: u64) {
        while self
            .generations
            .last()
            .is_some_and(|generation| generation.index < oldest)
        {
            self.generations.pop();
        }
    }

    fn at(&mut self, plan: &Plan, index: u64) -> &mut Generation {
        let place = self.place(index);
        if self
            .generations
            .get(place)
            .is_none_or(|found| found.index != index)
        {
            let bloom = plan.filter();
            self.generations.insert(
                place,
                Generation {
                    index,
                    entries: 0,
                    bloom,
                },
            );
        }
        &mut self.generations[place]
    }

    fn place(&self, index: u64) -> usize {
        self.generations
            .partition_point(|generation| generation.index > index)
    }
}
