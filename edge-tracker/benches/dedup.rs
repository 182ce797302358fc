//! Compares structures that distinguish new visits from repeated ones: the product's filters, single Bloom filters of
//! two libraries, and an exact set. Prints one table; checks no budget.
//!
//! Each inserts N new keys and is then queried for N others that were never inserted. The product's filters keep a
//! sliding window in generations and insert at each query: their keys are spread evenly over one window and queried over
//! the next. The others know no time and are queried without inserting. All promise one wrong result in 10,000, the
//! exact set none.
//!
//! `cargo bench -p edge-tracker --bench dedup`, with `-- --huge` for 100 million keys.
#![forbid(unsafe_code)]

use ahash::RandomState;
use bloomfilter::Bloom;
use daemon::settings::ByteSize;
use domain::{LinkId, Micros, VisitorId};
use edge_tracker::unique::{Filters, LinkUse, UniqueSettings, Uniqueness};
use edge_tracker::visitor::address::Network;
use edge_tracker::visitor::identity::{PreviousId, VisitorIds};
use fastbloom::BloomFilter;
use std::collections::HashSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

const TARGET_ERROR_RATE: f64 = 1e-4;
const DAY: u64 = 24 * 3_600_000_000;
const MILLION: u64 = 1_000_000;
/// Its halves key two hash functions, so they must differ.
const SEED: [u8; 32] = *b"a fixed seed for the comparison!";

type Candidate = fn(u64) -> Line;

/// One line of the table.
struct Line {
    name: &'static str,
    set_nanos: f64,
    ask_nanos: f64,
    bytes: u64,
    wrong: u64,
}

fn main() {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    // Without --bench this is a test run: it only shows that everything works.
    let mut sizes = if given("--bench") {
        vec![MILLION, 10 * MILLION]
    } else {
        vec![10_000]
    };
    if given("--huge") {
        sizes.push(100 * MILLION);
    }
    println!(
        "{:>11}  {:<28} {:>10} {:>10} {:>14} {:>9} {:>10}",
        "keys", "what", "set ns", "ask ns", "memory bytes", "wrong", "rate"
    );
    for keys in sizes {
        let contenders: [Candidate; 4] = [product, bloomfilter_alone, fastbloom_alone, exact];
        for measure in contenders {
            print(keys, &measure(keys));
        }
    }
}

fn print(keys: u64, line: &Line) {
    let rate = line.wrong as f64 / keys as f64;
    println!(
        "{keys:>11}  {:<28} {:>10.1} {:>10.1} {:>14} {:>9} {rate:>10.2e}",
        line.name, line.set_nanos, line.ask_nanos, line.bytes, line.wrong
    );
}

/// The key of a visit: of 100 million, hardly two are equal.
fn key(number: u64) -> u64 {
    fastrand::Rng::with_seed(number).u64(..)
}

/// Does something for each number: nanoseconds per number, and how often it said yes.
fn timed(numbers: std::ops::Range<u64>, mut act: impl FnMut(u64) -> bool) -> (f64, u64) {
    let count = (numbers.end - numbers.start) as f64;
    let start = Instant::now();
    let yes = numbers.filter(|number| black_box(act(*number))).count();
    (start.elapsed().as_nanos() as f64 / count, yes as u64)
}

fn product(keys: u64) -> Line {
    let settings = UniqueSettings {
        expected_visits: keys,
        false_positive_rate: TARGET_ERROR_RATE,
        max_memory: ByteSize(8 << 30),
        ..UniqueSettings::default()
    };
    let filters = Filters::new(&settings).expect("the settings are valid");
    let visit = |number| {
        let now = 20_000 * DAY + (u128::from(number) * u128::from(DAY) / u128::from(keys)) as u64;
        let ids = VisitorIds {
            current: VisitorId(key(number)),
            previous: PreviousId::Computed(VisitorId(key(!number))),
            since: Micros(now / DAY * DAY),
        };
        let network = Network::of(IpAddr::V4(Ipv4Addr::from((number as u32) << 8)));
        let known = filters.check_and_set(Micros(now), LinkUse::Click(LinkId(1)), &ids, network);
        known != Uniqueness::Unique
    };
    let (set_nanos, _) = timed(0..keys, visit);
    let (ask_nanos, wrong) = timed(keys..2 * keys, visit);
    Line {
        name: "unique::Filters (bloomfilter)",
        set_nanos,
        ask_nanos,
        bytes: filters.stats().memory_bytes,
        wrong,
    }
}

fn bloomfilter_alone(keys: u64) -> Line {
    let mut filter =
        Bloom::<u64>::new_for_fp_rate_with_seed(keys as usize, TARGET_ERROR_RATE, &SEED)
            .expect("a fixed seed can't be refused");
    let (set_nanos, _) = timed(0..keys, |number| filter.check_and_set(&key(number)));
    let (ask_nanos, wrong) = timed(keys..2 * keys, |number| filter.check(&key(number)));
    Line {
        name: "bloomfilter, one filter",
        set_nanos,
        ask_nanos,
        bytes: filter.len() / 8,
        wrong,
    }
}

fn fastbloom_alone(keys: u64) -> Line {
    let mut filter = BloomFilter::with_false_pos(TARGET_ERROR_RATE)
        .seed(&7)
        .expected_items(keys as usize);
    let (set_nanos, _) = timed(0..keys, |number| filter.insert(&key(number)));
    let (ask_nanos, wrong) = timed(keys..2 * keys, |number| filter.contains(&key(number)));
    Line {
        name: "fastbloom, one filter",
        set_nanos,
        ask_nanos,
        bytes: filter.num_bits() as u64 / 8,
        wrong,
    }
}

fn exact(keys: u64) -> Line {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut set = HashSet::<u64, _>::with_hasher(hasher);
    let (set_nanos, _) = timed(0..keys, |number| !set.insert(key(number)));
    let (ask_nanos, wrong) = timed(keys..2 * keys, |number| set.contains(&key(number)));
    // A table is filled to 7/8 and has one control byte per entry.
    let buckets = set.capacity() as u64 * 8 / 7;
    Line {
        name: "ahash::HashSet, exact",
        set_nanos,
        ask_nanos,
        bytes: buckets * 9,
        wrong,
    }
}
