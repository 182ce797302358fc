//! One shard of the filters: its part of every generation, and the keys set in them.

use super::LinkUse;
use super::generation_clock::GenerationPosition;
use super::sizing::Plan;
use bloomfilter::Bloom;
use domain::VisitorId;
use std::ops::RangeBounds;

/// A visitor's use of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VisitKey(u64);

impl VisitKey {
    /// Mixes both into 64 bits. Ids are uniform, so two pairs collide with a probability of 2^-64.
    pub(super) fn new(used: LinkUse, visitor: VisitorId) -> Self {
        let used = match used {
            LinkUse::Click(link) => u64::from(link.0) << 1,
            LinkUse::Impression(link) => u64::from(link.0) << 1 | 1,
        };
        let mut mixed = visitor.0 ^ used.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ mixed >> 31)
    }

    /// The shard among `shards`, a power of two. The filter hashes the key with SipHash, so its bits don't depend on
    /// the shard's.
    pub(super) fn shard(self, shards: usize) -> usize {
        (self.0 >> 40) as usize & (shards - 1)
    }
}

/// One shard's part of a generation.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) index: u64,
    /// Keys that were new when they were set. Bits change exactly when this number does.
    pub(super) entries: u64,
    pub(super) bloom: Bloom<u64>,
}

impl Generation {
    /// The meaning of a hit in this filter.
    const fn hit(&self, plan: &Plan) -> Membership {
        if self.entries > plan.keys {
            Membership::Possible
        } else {
            Membership::Certain
        }
    }
}

fn find_in<'g>(
    plan: &Plan,
    generations: impl Iterator<Item = &'g Generation>,
    key: VisitKey,
) -> Membership {
    let mut seen = Membership::Absent;
    for generation in generations {
        if generation.bloom.check(&key.0) {
            seen = seen.max(generation.hit(plan));
            if seen == Membership::Certain {
                break;
            }
        }
    }
    seen
}

/// Whether a key was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Membership {
    Absent,
    /// Only filters above their capacity contain it.
    Possible,
    /// A filter within its capacity contains it.
    Certain,
}

/// One shard's generations, newest first; each is created by its first visit.
#[derive(Debug, Default)]
pub(super) struct Shard {
    generations: Vec<Generation>,
}

impl Shard {
    /// Sets `key` at its moment. Returns whether it was set there or in another generation since `rotation`, and
    /// whether it was added to the generation of its moment.
    pub(super) fn set_and_find(
        &mut self,
        plan: &Plan,
        moment: GenerationPosition,
        rotation: u64,
        key: VisitKey,
    ) -> (Membership, bool) {
        let here = self.set(plan, moment, key);
        if here == Membership::Certain {
            return (here, false);
        }
        let others = self
            .generations
            .iter()
            .filter(|generation| generation.index != moment.index && generation.index >= rotation);
        (
            here.max(find_in(plan, others, key)),
            here == Membership::Absent,
        )
    }

    /// Searches these generations for `key`.
    pub(super) fn find(
        &mut self,
        plan: &Plan,
        moment: GenerationPosition,
        generations: impl RangeBounds<u64>,
        key: VisitKey,
    ) -> Membership {
        self.expire(moment.oldest);
        let all = self.generations.iter();
        find_in(plan, all.filter(|it| generations.contains(&it.index)), key)
    }

    /// Sets `key` at its moment; returns whether it was set there before.
    pub(super) fn set(
        &mut self,
        plan: &Plan,
        moment: GenerationPosition,
        key: VisitKey,
    ) -> Membership {
        self.expire(moment.oldest);
        let generation = self.get_or_insert(plan, moment.index);
        let found = generation.hit(plan);
        if generation.bloom.check_and_set(&key.0) {
            return found;
        }
        generation.entries += 1;
        Membership::Absent
    }

    /// The generations within the window.
    pub(super) fn live(&self, oldest: u64) -> impl Iterator<Item = &Generation> {
        self.generations
            .iter()
            .filter(move |generation| generation.index >= oldest)
    }

    /// Restores a saved generation.
    pub(super) fn restore(&mut self, generation: Generation) {
        let position = self.position(generation.index);
        self.generations.insert(position, generation);
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

    fn get_or_insert(&mut self, plan: &Plan, index: u64) -> &mut Generation {
        let position = self.position(index);
        if self
            .generations
            .get(position)
            .is_none_or(|found| found.index != index)
        {
            let bloom = plan.filter();
            self.generations.insert(
                position,
                Generation {
                    index,
                    entries: 0,
                    bloom,
                },
            );
        }
        &mut self.generations[position]
    }

    fn position(&self, index: u64) -> usize {
        self.generations
            .partition_point(|generation| generation.index > index)
    }
}
