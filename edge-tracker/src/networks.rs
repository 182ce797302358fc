//! How much each network has had of something within a period, so that no one network takes all of it.
//!
//! A count-min sketch of fixed size: it may count a network too high, by what shares both of its counters,
//! and never too low. Counters of an earlier period count as zero, so nothing is ever cleared.

use crate::visitor::address::Network;
use ahash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two rows of 8,192 counters are 128 KiB; of 2.5 million counted a counter has about 300 of others.
const COLUMNS: usize = 8_192;
const ROWS: usize = 2;

/// What networks have had in the newest period.
#[derive(Debug)]
pub(crate) struct Networks {
    /// The period's number in the upper half, the count in the lower.
    counters: Box<[AtomicU64]>,
    /// Seeded by chance: a network can't be chosen so that it counts for another.
    hasher: RandomState,
    /// The most that a network may have in a period.
    limit: u32,
}

/// The counters of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share([usize; ROWS]);

impl Networks {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            counters: (0..COLUMNS * ROWS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            limit,
        }
    }

    pub(crate) fn share(&self, network: Network) -> Share {
        let hash = self.hasher.hash_one(network) as usize;
        Share([hash % COLUMNS, COLUMNS + (hash >> 32) % COLUMNS])
    }

    /// Whether the network may have more in a period.
    pub(crate) fn has_room(&self, share: Share, period: u64) -> bool {
        let count = |at: &usize| count_of(self.counters[*at].load(Ordering::Relaxed), period);
        share.0.iter().map(count).min().unwrap_or(0) < self.limit
    }

    /// Counts what the network had.
    pub(crate) fn add(&self, share: Share, period: u64) {
        for at in share.0 {
            let add = |counter| {
                let count = count_of(counter, period).saturating_add(1);
                let newest = if is_newer(counter, period) {
                    counter >> 32
                } else {
                    tag_of(period)
                };
                Some(newest << 32 | u64::from(count))
            };
            let _ = self.counters[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }
}

const fn tag_of(period: u64) -> u64 {
    period & u32::MAX as u64
}

/// Whether a counter belongs to a later period, as after a step back of the clock.
const fn is_newer(counter: u64, period: u64) -> bool {
    let ahead = ((counter >> 32) as u32).wrapping_sub(period as u32);
    ahead != 0 && ahead < 1 << 31
}

const fn count_of(counter: u64, period: u64) -> u32 {
    let is_of = counter >> 32 == tag_of(period) || is_newer(counter, period);
    if is_of { counter as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from(number << 8)))
    }

    #[test]
    fn a_network_has_a_share_of_each_period() {
        let networks = Networks::new(3);
        let share = networks.share(network(1));
        for period in [100, 101] {
            for _ in 0..3 {
                assert!(networks.has_room(share, period));
                networks.add(share, period);
            }
            assert!(!networks.has_room(share, period));
        }
        // After a step back of the clock its share is still used up.
        assert!(!networks.has_room(share, 100));
        networks.add(share, 100);
        assert!(!networks.has_room(share, 101));
        assert!(networks.has_room(share, 102));
        assert!(networks.has_room(networks.share(network(2)), 101));
    }

    #[test]
    fn many_networks_hardly_count_for_each_other() {
        let networks = Networks::new(100);
        for number in 0..200_000 {
            networks.add(networks.share(network(number)), 7);
        }
        let others = (200_000..201_000).map(network);
        let refused = others.filter(|it| !networks.has_room(networks.share(*it), 7));
        assert_eq!(refused.count(), 0);
    }
}
