//! The journal's guarantees over long random runs: crashes, power losses and failing operations in any
//! order, on a model disk.
#![allow(missing_docs)]

mod harness;

use harness::{JournalHarness, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use storage::model::{Fault, Loss, Random};

/// The number of steps without [`STEPS_VARIABLE`].
const DEFAULT_STEPS: u64 = 2_000_000;
/// The environment variable for another number of steps.
const STEPS_VARIABLE: &str = "EVENT_JOURNAL_STEPS";
/// The environment variable for a single seed, whose steps are printed.
const SEED_VARIABLE: &str = "EVENT_JOURNAL_SEED";
const STEPS_PER_SEED: u64 = 500;
const LANES: u8 = 2;

#[derive(Debug, Default)]
struct FaultCounts {
    crashes: AtomicU64,
    power_losses: AtomicU64,
    faults: AtomicU64,
}

fn random_step(random: &mut Random) -> Step {
    let lane = random.below(u64::from(LANES)) as u8;
    let len = match random.below(20) {
        0 => 8 + random.below(60_000),
        1..4 => 8 + random.below(4_000),
        _ => 8 + random.below(300),
    };
    match random.below(64) {
        0..40 => Step::Append(lane, len as usize),
        40..44 => Step::Sync,
        44..50 => Step::Await(lane),
        50..54 => Step::Preallocate,
        54..58 => Step::Seal(lane),
        58..60 => Step::Release(lane, random.below(20)),
        60 => Step::TornAppend(lane, (len / 2) as usize),
        61 => Step::Reopen,
        _ => Step::Tick,
    }
}

fn run(seed: u64, counts: &FaultCounts) {
    let verbose = number_from_env(SEED_VARIABLE).is_some();
    let mut random = Random::new(seed);
    let mut harness = JournalHarness::new(seed, LANES, 8);
    let mut next_fault = 0;
    for _ in 0..STEPS_PER_SEED {
        if random.one_in(40) && harness.disk.operations() >= next_fault {
            let fault = [Fault::NoSpace, Fault::IoError, Fault::Stop][random.below(3) as usize];
            let at = harness.disk.operations() + random.below(30);
            if verbose {
                println!("{fault:?} at operation {at}");
            }
            harness.disk.inject_fault_at(at, fault);
            // The distance lets the journal mark a failed sync in the file.
            next_fault = at + 5;
            harness.oracle.faulty |= fault != Fault::Stop;
            counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        let step = random_step(&mut random);
        if verbose {
            println!("{step:?} at operation {}", harness.disk.operations());
        }
        harness.step(step);
        if harness.disk.has_stopped() || random.one_in(60) {
            harness = restart(&harness, &mut random, counts);
            next_fault = 0;
        }
    }
    assert!(harness.after_crash().open());
    assert!(harness.after_power_loss(Loss::Everything).open());
}

fn restart(harness: &JournalHarness, random: &mut Random, counts: &FaultCounts) -> JournalHarness {
    let loss = match random.below(6) {
        0..3 => {
            counts.crashes.fetch_add(1, Ordering::Relaxed);
            return harness.after_crash();
        }
        3 => Loss::Everything,
        _ => Loss::Random(random.next()),
    };
    counts.power_losses.fetch_add(1, Ordering::Relaxed);
    harness.after_power_loss(loss)
}

fn number_from_env(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_faults_preserve_acknowledged_data() {
    let counts = FaultCounts::default();
    if let Some(seed) = number_from_env(SEED_VARIABLE) {
        return run(seed, &counts);
    }
    let seeds = number_from_env(STEPS_VARIABLE)
        .unwrap_or(DEFAULT_STEPS)
        .div_ceil(STEPS_PER_SEED);
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    thread::scope(|scope| {
        for thread in 0..threads {
            let counts = &counts;
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    let held = catch_unwind(AssertUnwindSafe(|| run(seed, counts)));
                    if let Err(panic) = held {
                        eprintln!("reproduce with {SEED_VARIABLE}={seed}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
    println!("{} steps, {counts:?}", seeds * STEPS_PER_SEED);
}
