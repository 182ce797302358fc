//! A simulation of the path from the journal to the table, in one process with a simulated clock. The edge's
//! shipper and the aggregator are real; disks, network and database are models that fail. A seed determines the run
//! completely.
// The layout of the aggregator's tasks is deeper than the default.
#![recursion_limit = "256"]
#![allow(missing_docs)]

#[path = "simulation/aggregator.rs"]
mod aggregator;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/edge.rs"]
mod edge;
#[path = "simulation/events.rs"]
mod events;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/rows.rs"]
mod rows;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use world::FaultStats;

/// Number of seeds, unless [`SEED_COUNT_VARIABLE`] is set.
const DEFAULT_SEEDS: u64 = 4_000;
/// Environment variable with another number of seeds.
const SEED_COUNT_VARIABLE: &str = "SIMULATION_SEEDS";
/// Environment variable with a single seed, whose faults are printed.
const SEED_VARIABLE: &str = "SIMULATION_SEED";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) -> FaultStats {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, false))).unwrap_or_else(|panic| {
        eprintln!("reproduce with {SEED_VARIABLE}={seed}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn faults_lose_and_duplicate_no_accepted_event() {
    if let Some(seed) = number(SEED_VARIABLE) {
        tracing_subscriber::fmt().without_time().init();
        println!("{:?}", world::run(seed, true));
        return;
    }
    let seeds = number(SEED_COUNT_VARIABLE).unwrap_or(DEFAULT_SEEDS);
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    let sum = Mutex::new(FaultStats::default());
    thread::scope(|scope| {
        for thread in 0..threads {
            let sum = &sum;
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    let stats = run(seed);
                    sum.lock().expect("no other thread panicked").add(&stats);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no thread panicked");
    println!("{seeds} seeds: {sum:?}");
    // Faults that never occur would prove nothing.
    assert!(sum.covers_all_faults(), "{sum:?}");
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
