//! The way of an event from the journal to the table, in one process and by a simulated clock: the
//! edge's shipper and the aggregator are the real ones; their disks, the network between them and
//! the database are models that fail. A seed says what happens, and the same seed says the same.
#![allow(missing_docs)]

#[path = "simulation/centre.rs"]
mod centre;
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
use world::Story;

/// Seeds tried, unless [`MORE`] says otherwise.
const SEEDS: u64 = 10_000;
/// An environment variable with another number of seeds.
const MORE: &str = "SIMULATION_SEEDS";
/// An environment variable with a seed to be tried alone, each fault told.
const ALONE: &str = "SIMULATION_SEED";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) -> Story {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, false))).unwrap_or_else(|panic| {
        eprintln!("again with {ALONE}={seed}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn every_accepted_event_is_in_the_table_once_whatever_fails() {
    if let Some(seed) = number(ALONE) {
        tracing_subscriber::fmt().without_time().init();
        println!("{:?}", world::run(seed, true));
        return;
    }
    let seeds = number(MORE).unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    let sum = Mutex::new(Story::default());
    thread::scope(|scope| {
        for thread in 0..threads {
            let sum = &sum;
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    let story = run(seed);
                    sum.lock().expect("nobody panics meanwhile").add(&story);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("nobody panicked");
    println!("{seeds} seeds: {sum:?}");
    // Faults that never happen would prove nothing.
    assert!(sum.every_kind_happened(), "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
