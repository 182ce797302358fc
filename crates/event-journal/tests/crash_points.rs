//! The journal's promises at every point where it can be interrupted: scripted runs on a model disk
//! that stops at each operation, with every page and name lost or kept, and fails at each operation.
#![allow(missing_docs)]

mod machine;

use machine::{Machine, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use storage::model::{Fault, Loss, Random};

/// No script has more steps.
const STEPS: usize = 64;
const SEGMENTS: u64 = 4;

/// Runs in which something particular happens, and some that follow from seeds.
fn scripts() -> Vec<Vec<Step>> {
    use Step::*;
    let mut scripts = vec![
        // Waiting for each event; then none.
        vec![
            Append(0, 100),
            Await(0),
            Append(0, 5_000),
            Await(0),
            Append(0, 9),
            Append(0, 300),
        ],
        // Segments filled one after another, with and without a spare ready.
        vec![
            Append(0, 40_000),
            Await(0),
            Append(0, 40_000),
            Spare,
            Append(0, 40_000),
            Sync,
            Append(0, 30_000),
            Await(0),
            Append(0, 100),
        ],
        // Shipped and deleted while it goes on.
        vec![
            Append(0, 40_000),
            Seal(0),
            Append(0, 40_000),
            Append(0, 50),
            Seal(0),
            Await(0),
            Release(0, 1),
            Append(0, 60_000),
            Seal(0),
            Release(0, 0),
            Append(0, 60_000),
            Await(0),
            Append(0, 60_000),
            Seal(0),
            Release(0, 0),
            Append(0, 77),
        ],
        // Opened again and again.
        vec![
            Append(0, 10),
            Reopen,
            Append(0, 10),
            Await(0),
            Reopen,
            Reopen,
            Append(0, 10),
            Seal(0),
            Reopen,
            Release(0, 0),
            Append(0, 10),
            Reopen,
            Append(0, 10),
            Await(0),
        ],
        // Full, then released.
        vec![
            Append(0, 60_000),
            Append(0, 60_000),
            Append(0, 60_000),
            Append(0, 60_000),
            Append(0, 9),
            Await(0),
            Seal(0),
            Append(0, 60_000),
            Release(0, 0),
            Tick,
            Append(0, 60_000),
            Await(0),
            Append(0, 1_000),
        ],
    ];
    scripts.extend((1..=5).map(|seed| random_script(seed, STEPS)));
    scripts
}

fn random_script(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    (0..steps).map(|_| random_step(&mut random)).collect()
}

fn random_step(random: &mut Random) -> Step {
    let len = match random.below(3) {
        0 => 8 + random.below(60_000),
        _ => 8 + random.below(300),
    };
    match random.below(32) {
        0..16 => Step::Append(0, len as usize),
        16..19 => Step::Sync,
        19..22 => Step::Await(0),
        22..25 => Step::Spare,
        25..28 => Step::Seal(0),
        28..30 => Step::Release(0, random.below(4)),
        30 => Step::Reopen,
        _ => Step::Tick,
    }
}

fn run(machine: &mut Machine, script: &[Step]) {
    script.iter().for_each(|step| machine.step(*step));
}

/// Each way that a power cut can end: all, nothing, each page or name alone lost or kept, and some
/// that are left to chance.
fn losses(machine: &Machine) -> Vec<Loss> {
    let mut losses = vec![Loss::Nothing, Loss::Everything];
    for part in 0..machine.disk.unsynced_changes() {
        losses.extend([Loss::Only(part), Loss::AllBut(part)]);
    }
    losses.extend((0..4).map(Loss::Random));
    losses
}

/// Opens, goes on for a while, and loses power again: what was found and what came after is kept.
fn goes_on(mut machine: Machine) {
    use Step::*;
    assert!(machine.opened());
    run(&mut machine, &[Append(0, 100), Await(0), Append(0, 100)]);
    assert!(machine.without_power(Loss::Everything).opened());
    assert!(machine.crashed().opened());
}

/// Tries every end that this moment can have.
fn every_end(machine: &Machine) -> u64 {
    goes_on(machine.crashed());
    let losses = losses(machine);
    let ends = 1 + losses.len() as u64;
    for loss in losses {
        named(&format!("{loss:?}"), || {
            goes_on(machine.without_power(loss))
        });
    }
    ends
}

/// Says in which case something failed.
fn named<T>(case: &str, act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        eprintln!("in case: {case}");
        std::panic::resume_unwind(panic)
    })
}

/// Spreads the cases over this machine's cores.
fn in_parallel(cases: Vec<(String, impl FnOnce() -> u64 + Send)>) -> u64 {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let queue = std::sync::Mutex::new(cases.into_iter());
    thread::scope(|scope| {
        let worker = || {
            let mut ends = 0;
            loop {
                let next = queue.lock().expect("nobody panics meanwhile").next();
                let Some((name, case)) = next else {
                    return ends;
                };
                ends += named(&name, case);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|it| it.join().expect("each case holds"))
            .sum()
    })
}

fn operations(script: &[Step]) -> u64 {
    let mut machine = Machine::new(0, 1, SEGMENTS);
    run(&mut machine, script);
    machine.disk.operations()
}

#[test]
fn at_every_operation_a_crash_keeps_what_was_accepted_and_a_power_cut_what_was_durable() {
    let mut cases = Vec::new();
    for (number, script) in scripts().into_iter().enumerate() {
        for at in 0..=operations(&script) {
            let script = script.clone();
            let name = format!("script {number} {script:?} stopped at operation {at}");
            cases.push((name, move || {
                let mut machine = Machine::new(0, 1, SEGMENTS);
                machine.disk.inject_fault_at(at, Fault::Stop);
                run(&mut machine, &script);
                every_end(&machine)
            }));
        }
    }
    let (points, ends) = (cases.len(), in_parallel(cases));
    println!("{points} points, {ends} ends");
}

#[test]
fn an_error_at_any_operation_costs_nothing_that_was_promised() {
    let mut cases = Vec::new();
    for (number, script) in scripts().into_iter().enumerate() {
        for at in 0..operations(&script) {
            for fault in [Fault::NoSpace, Fault::IoError] {
                let script = script.clone();
                let name = format!("script {number} {script:?}, {fault:?} at operation {at}");
                cases.push((name, move || {
                    let mut machine = Machine::new(at, 1, SEGMENTS);
                    machine.known.faulty = true;
                    machine.disk.inject_fault_at(at, fault);
                    run(&mut machine, &script);
                    machine.check_counted();
                    every_end(&machine)
                }));
            }
        }
    }
    let (points, ends) = (cases.len(), in_parallel(cases));
    println!("{points} points, {ends} ends");
}

#[test]
fn an_append_interrupted_at_any_byte_leaves_all_or_nothing_of_it() {
    for written in 0..200 {
        let mut machine = Machine::new(written, 1, SEGMENTS);
        run(
            &mut machine,
            &[Step::Append(0, 50), Step::Torn(0, written as usize)],
        );
        run(&mut machine, &[Step::Append(0, 50), Step::Await(0)]);
        every_end(&machine);
    }
}
