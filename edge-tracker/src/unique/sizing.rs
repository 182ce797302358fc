//! Settings of the filters, and their sizes for the configured error rate.
//!
//! A visit is marked wrongly when any searched filter errs. A visit searches `generations + 1` filters, and the one in
//! which the visitor ids rotate twice, so for the error rate `P` each may err at `p = P / (generations + 2)`. The
//! smallest filter for that has `log2 1/p` hashes (Bloom, 1970); each costs a memory access that is seldom in a
//! cache. With `k` fewer, a key needs `-k / ln(1 - p^(1/k))` bits: three eighths of the accesses ([`HASH_FACTOR`]) for
//! half as much memory again.
//!
//! `n` is a shard's part of a generation's part of the expected visits, half as much again because days have peaks
//! ([`PEAK_FACTOR`]), and three standard deviations more because hashing spreads unevenly.
//! Ten million visits a day at 1e-4 in six generations and 64 shards: 7 × 64 filters of 179 kB, or
//! 80 MB.

use bloomfilter::Bloom;
use daemon::settings::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use thiserror::Error;

/// The filters' hash keys: fixed, so that a saved filter can be read after a restart. No client can aim at them: a
/// visitor's id is already a hash under the fleet's secret.
pub(super) const SEED: [u8; 32] = *b"FanzFiliate unique visits seed 1";

/// Visits of the busiest generation relative to the average.
const PEAK_FACTOR: f64 = 1.5;
/// Hashes relative to those of the smallest filter.
const HASH_FACTOR: f64 = 0.375;
const MAX_GENERATIONS: u32 = 64;
const MAX_SHARDS: u32 = 4096;

/// Settings of the filters of unique visits.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UniqueSettings {
    /// How long a visit makes later ones repeated; at least 1 s, no longer than `visitor.period`.
    pub window: HumanDuration,
    /// The number of generations of a window, 1 to 64: more keep the window more exactly and cost time.
    pub generations: u32,
    /// The number of locks that share the visits: a power of two up to 4096.
    pub shards: u32,
    /// Expected visits of this node within a window, at least 1. Beyond it visits are marked `uniqueness_unknown`
    /// instead of repeated.
    pub expected_visits: u64,
    /// The share of new visits that may be marked as repeated, above 0 and below 0.5.
    pub false_positive_rate: f64,
    /// The share of a generation's entries that one network (/24 of IPv4, /48 of IPv6) may add, above 0 and at most 1.
    /// Its new visits beyond it are marked `uniqueness_unknown`.
    pub network_share: f64,
    /// The maximum memory of the filters; settings that need more are rejected.
    pub max_memory: ByteSize,
}

impl Default for UniqueSettings {
    fn default() -> Self {
        Self {
            window: HumanDuration(Duration::from_secs(24 * 60 * 60)),
            generations: 6,
            shards: 64,
            expected_visits: 10_000_000,
            false_positive_rate: 1e-4,
            network_share: 0.01,
            max_memory: ByteSize(512 << 20),
        }
    }
}

/// Why settings are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSettings {
    /// Out of range.
    #[error("unique.window must be at least 1s and unique.generations between 1 and 64")]
    Window,
    /// Out of range.
    #[error("unique.shards must be a power of two between 1 and 4096")]
    Shards,
    /// Out of range.
    #[error("unique.false_positive_rate must be above 0 and below 0.5")]
    Rate,
    /// Out of range.
    #[error("unique.network_share must be above 0 and at most 1")]
    Share,
    /// Out of range.
    #[error("unique.expected_visits must be at least 1")]
    Visits,
    /// The filters would be too large.
    #[error(
        "the filters of unique visits would take {needed} bytes, more than unique.max_memory; \
         raise that, or expect fewer visits, or allow a higher false_positive_rate"
    )]
    Memory {
        /// Bytes that the filters would need.
        needed: u64,
    },
}

/// The sizes that follow from the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// Microseconds of a generation.
    pub(super) span: u64,
    /// Generations that count in addition to the newest.
    pub(super) generations: u64,
    pub(super) shards: usize,
    /// The capacity of a filter in entries: with more it errs more often than configured.
    pub(super) keys: u64,
    /// Entries that a network may add to a generation.
    pub(super) network_keys: u32,
    /// Bytes of a filter's bitmap.
    pub(super) bytes: usize,
    pub(super) hashes: u32,
}

impl Plan {
    pub(super) fn new(settings: &UniqueSettings) -> Result<Self, InvalidSettings> {
        let window = u64::try_from(settings.window.0.as_micros()).unwrap_or(u64::MAX);
        let (generations, shards) = (settings.generations, settings.shards);
        if window < 1_000_000 || !(1..=MAX_GENERATIONS).contains(&generations) {
            return Err(InvalidSettings::Window);
        }
        if !shards.is_power_of_two() || shards > MAX_SHARDS {
            return Err(InvalidSettings::Shards);
        }
        let rate = settings.false_positive_rate;
        if !(rate > 0.0 && rate < 0.5) {
            return Err(InvalidSettings::Rate);
        }
        let share = settings.network_share;
        if !(share > 0.0 && share <= 1.0) {
            return Err(InvalidSettings::Share);
        }
        if settings.expected_visits == 0 {
            return Err(InvalidSettings::Visits);
        }
        let filters = f64::from(generations) * f64::from(shards);
        let mean = settings.expected_visits as f64 * PEAK_FACTOR / filters;
        let keys = (mean + 3.0 * mean.sqrt()).ceil();
        let each = rate / f64::from(generations + 2);
        let hashes = (-each.log2() * HASH_FACTOR).round().max(1.0);
        let bits = -hashes / (1.0 - each.powf(1.0 / hashes)).ln();
        let bytes = (keys * bits / 8.0).ceil();
        let needed = (bytes * f64::from(generations + 1) * f64::from(shards)) as u64;
        if needed > settings.max_memory.0 {
            return Err(InvalidSettings::Memory { needed });
        }
        Ok(Self {
            span: window.div_ceil(generations.into()),
            generations: generations.into(),
            shards: shards as usize,
            keys: keys as u64,
            network_keys: (keys * f64::from(shards) * share).ceil() as u32,
            bytes: bytes as usize,
            hashes: hashes as u32,
        })
    }

    /// An empty filter.
    pub(super) fn filter(&self) -> Bloom<u64> {
        // The library derives the number of hashes from the number of keys.
        let bits = self.bytes as f64 * 8.0;
        let keys = bits * std::f64::consts::LN_2 / f64::from(self.hashes);
        Bloom::new_with_seed(self.bytes, keys as usize, &SEED)
            .expect("a fixed seed can't be refused")
    }

    /// The number of generations on disk.
    pub(super) fn slots(&self) -> u64 {
        self.generations + 1
    }

    /// The maximum size of a generation's file.
    pub(super) fn max_file_bytes(&self) -> u64 {
        const MAX_HEADER_BYTES: u64 = 64;
        (self.bytes as u64 + MAX_HEADER_BYTES) * self.shards as u64 + MAX_HEADER_BYTES
    }

    /// The expected share of set bits in a filter of `entries`.
    pub(super) fn fill(&self, entries: u64) -> f64 {
        let bits = self.bytes as f64 * 8.0;
        1.0 - (-f64::from(self.hashes) * entries as f64 / bits).exp()
    }

    /// The error rate of a filter with this fill.
    pub(super) fn false_positives(&self, fill: f64) -> f64 {
        fill.powf(self.hashes.into())
    }

    /// A number that differs for plans whose saved filters are incompatible.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&SEED);
        let sizes = [
            self.generations,
            self.shards as u64,
            self.bytes as u64,
            self.hashes.into(),
        ];
        for number in [self.span].iter().chain(&sizes) {
            hasher.update(&number.to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_rejected() {
        let with = |change: fn(&mut UniqueSettings)| {
            let mut settings = UniqueSettings::default();
            change(&mut settings);
            Plan::new(&settings).map(|_| ())
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|s| s.generations = 0), Err(InvalidSettings::Window));
        assert_eq!(with(|s| s.generations = 65), Err(InvalidSettings::Window));
        assert_eq!(
            with(|s| s.window = HumanDuration(Duration::ZERO)),
            Err(InvalidSettings::Window)
        );
        assert_eq!(with(|s| s.shards = 0), Err(InvalidSettings::Shards));
        assert_eq!(with(|s| s.shards = 12), Err(InvalidSettings::Shards));
        assert_eq!(
            with(|s| s.false_positive_rate = 0.0),
            Err(InvalidSettings::Rate)
        );
        assert_eq!(
            with(|s| s.false_positive_rate = f64::NAN),
            Err(InvalidSettings::Rate)
        );
        for share in [0.0, 1.1, f64::NAN] {
            let settings = UniqueSettings {
                network_share: share,
                ..UniqueSettings::default()
            };
            assert_eq!(Plan::new(&settings), Err(InvalidSettings::Share));
        }
        assert_eq!(
            with(|s| s.expected_visits = 0),
            Err(InvalidSettings::Visits)
        );
        let huge = with(|s| s.expected_visits = u64::MAX);
        assert!(matches!(huge, Err(InvalidSettings::Memory { .. })));
    }

    #[test]
    fn default_plan_has_the_documented_size() {
        let plan = Plan::new(&UniqueSettings::default()).expect("the default is valid");
        let total = plan.bytes * plan.shards * 7;
        assert_eq!((plan.bytes / 1000, total / 1_000_000), (179, 80));
        assert_eq!(plan.filter().number_of_hash_functions(), plan.hashes);
    }

    #[test]
    fn different_plans_have_different_fingerprints() {
        let print = |visits, generations| {
            let settings = UniqueSettings {
                expected_visits: visits,
                generations,
                ..UniqueSettings::default()
            };
            Plan::new(&settings).expect("valid").fingerprint()
        };
        assert_eq!(print(1000, 6), print(1000, 6));
        assert_ne!(print(1000, 6), print(100_000, 6));
        assert_ne!(print(1000, 6), print(1000, 4));
    }
}
