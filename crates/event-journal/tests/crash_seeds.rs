//! The journal's promises over long runs that follow from seeds: crashes, power cuts and failing
//! operations in any order, on a model disk.
#![allow(missing_docs)]

mod machine;

use machine::{Machine, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use storage::model::{Fault, Loss, Random};

/// Steps tried, unless [`MORE`] says otherwise.
const STEPS: u64 = 2_000_000;
/// An environment variable with another number of steps.
const MORE: &str = "EVENT_JOURNAL_STEPS";
/// An environment variable with a seed to be tried alone, each step told.
const ALONE: &str = "EVENT_JOURNAL_SEED";
const STEPS_OF_A_SEED: u64 = 500;
const LANES: u8 = 2;

#[derive(Debug, Default)]
struct Met {
    crashes: AtomicU64,
    power_cuts: AtomicU64,
    faults: AtomicU64,
}

fn step(random: &mut Random) -> Step {
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
        50..54 => Step::Spare,
        54..58 => Step::Seal(lane),
        58..60 => Step::Release(lane, random.below(20)),
        60 => Step::Torn(lane, (len / 2) as usize),
        61 => Step::Reopen,
        _ => Step::Tick,
    }
}

fn run(seed: u64, met: &Met) {
    let told = number(ALONE).is_some();
    let mut random = Random::new(seed);
    let mut machine = Machine::new(seed, LANES, 8);
    let mut next_fault = 0;
    for _ in 0..STEPS_OF_A_SEED {
        if random.one_in(40) && machine.disk.operations() >= next_fault {
            let fault = [Fault::NoSpace, Fault::IoError, Fault::Stop][random.below(3) as usize];
            let at = machine.disk.operations() + random.below(30);
            if told {
                println!("{fault:?} at operation {at}");
            }
            machine.disk.inject_fault_at(at, fault);
            // A disk that fails twice in a row can't even be noted to have failed.
            next_fault = at + 5;
            machine.known.faulty |= fault != Fault::Stop;
            met.faults.fetch_add(1, Ordering::Relaxed);
        }
        let step = step(&mut random);
        if told {
            println!("{step:?} at operation {}", machine.disk.operations());
        }
        machine.step(step);
        if machine.disk.has_stopped() || random.one_in(60) {
            machine = another(&machine, &mut random, met);
            next_fault = 0;
        }
    }
    assert!(machine.crashed().opened());
    assert!(machine.without_power(Loss::Everything).opened());
}

fn another(machine: &Machine, random: &mut Random, met: &Met) -> Machine {
    let loss = match random.below(6) {
        0..3 => {
            met.crashes.fetch_add(1, Ordering::Relaxed);
            return machine.crashed();
        }
        3 => Loss::Everything,
        _ => Loss::Random(random.next()),
    };
    met.power_cuts.fetch_add(1, Ordering::Relaxed);
    machine.without_power(loss)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn any_order_of_crashes_power_cuts_and_errors_keeps_every_promise() {
    let met = Met::default();
    if let Some(seed) = number(ALONE) {
        return run(seed, &met);
    }
    let seeds = number(MORE).unwrap_or(STEPS).div_ceil(STEPS_OF_A_SEED);
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    thread::scope(|scope| {
        for thread in 0..threads {
            let met = &met;
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    let held = catch_unwind(AssertUnwindSafe(|| run(seed, met)));
                    if let Err(panic) = held {
                        eprintln!("again with {ALONE}={seed}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
    println!("{} steps, {met:?}", seeds * STEPS_OF_A_SEED);
}
