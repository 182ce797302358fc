//! Limits each network's share of a resource within a period.
//!
//! A count-min sketch of fixed size: it may count a network too high, by networks that share both of its counters,
//! and never too low. Counters of an earlier period count as zero, so nothing is ever cleared.

use crate::visitor::address::Network;
use ahash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two rows of 8,192 counters take 128 KiB; with 2.5 million uses each counter holds about 300 uses.
const COLUMNS: usize = 8_192;
const ROWS: usize = 2;

/// The uses of all networks in the newest period.
#[derive(Debug)]
pub(crate) struct NetworkQuota {
    /// The period's number in the upper half, the count in the lower.
    counters: Box<[AtomicU64]>,
    /// Seeded randomly: no client can choose a network that shares the counters of another.
    hasher: RandomState,
    /// The most uses of a network in a period.
    limit: u32,
}

/// The indices of a network's counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkCounters([usize; ROWS]);

impl NetworkQuota {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            counters: (0..COLUMNS * ROWS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            limit,
        }
    }

    pub(crate) fn counters_of(&self, network: Network) -> NetworkCounters {
        let hash = self.hasher.hash_one(network) as usize;
        NetworkCounters([hash % COLUMNS, COLUMNS + (hash >> 32) % COLUMNS])
    }

    /// Whether the network has uses left in a period.
    pub(crate) fn has_room(&self, counters: NetworkCounters, period: u64) -> bool {
        let count = |at: &usize| count_of(self.counters[*at].load(Ordering::Relaxed), period);
        counters.0.iter().map(count).min().unwrap_or(0) < self.limit
    }

    /// Counts one use by the network.
    pub(crate) fn add(&self, counters: NetworkCounters, period: u64) {
        for at in counters.0 {
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

/// Whether a counter belongs to a later period, as it may after the clock was set back.
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
    fn network_quota_is_limited_in_each_period() {
        let networks = NetworkQuota::new(3);
        let counters = networks.counters_of(network(1));
        for period in [100, 101] {
            for _ in 0..3 {
                assert!(networks.has_room(counters, period));
                networks.add(counters, period);
            }
            assert!(!networks.has_room(counters, period));
        }
        // After the clock was set back, its quota is still used up.
        assert!(!networks.has_room(counters, 100));
        networks.add(counters, 100);
        assert!(!networks.has_room(counters, 101));
        assert!(networks.has_room(counters, 102));
        assert!(networks.has_room(networks.counters_of(network(2)), 101));
    }

    #[test]
    fn many_networks_hardly_share_counters() {
        let networks = NetworkQuota::new(100);
        for number in 0..200_000 {
            networks.add(networks.counters_of(network(number)), 7);
        }
        let others = (200_000..201_000).map(network);
        let refused = others.filter(|it| !networks.has_room(networks.counters_of(*it), 7));
        assert_eq!(refused.count(), 0);
    }
}
