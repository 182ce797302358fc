//! Runs every target over its seeds and some thousand mutations. `HOSTILE_SEED` selects other mutations.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

use hostile_bytes::{Mutations, TARGETS, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const MUTATIONS: usize = 4_000;
/// Time limit of a slow target.
const TARGET_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn properties_hold_for_seeds_and_mutations() {
    let seed = std::env::var("HOSTILE_SEED").map_or(1, |text| text.parse().expect("number"));
    println!("HOSTILE_SEED={seed}");
    std::thread::scope(|scope| {
        let (even, odd): (Vec<_>, Vec<_>) = (0..TARGETS.len()).partition(|number| number % 2 == 0);
        for share in [even, odd] {
            scope.spawn(move || share.into_iter().for_each(|it| run(&TARGETS[it], seed)));
        }
    });
}

fn run(target: &Target, seed: u64) {
    let (seeds, begun) = ((target.seeds)(), Instant::now());
    assert!(!seeds.is_empty(), "{} has seeds", target.name);
    let mutations = Mutations::new(&seeds, seed).take(MUTATIONS);
    let mut count = 0;
    for bytes in seeds.iter().cloned().chain(mutations) {
        let held = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
        assert!(
            held.is_ok(),
            "{} with HOSTILE_SEED={seed}: {:?}",
            target.name,
            bytes.escape_ascii().to_string()
        );
        count += 1;
        if begun.elapsed() > TARGET_TIMEOUT {
            break;
        }
    }
    println!(
        "{:20} {count:6} inputs in {:.1?}",
        target.name,
        begun.elapsed()
    );
}
