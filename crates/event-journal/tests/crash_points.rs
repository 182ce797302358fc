//! The journal's guarantees at every point of interruption. Scripts run on a model disk that stops or
//! fails at each operation, and every page and name is lost or kept.
#![allow(missing_docs)]

mod harness;

use harness::{JournalHarness, Step};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use storage::model::{Fault, Loss, Random};

/// The length of random scripts.
const MAX_STEPS: usize = 64;
const MAX_SEGMENTS: u64 = 4;

/// Scripts for particular situations, and random scripts.
fn scripts() -> Vec<Vec<Step>> {
    use Step::*;
    let mut scripts = vec![
        // Waits for each event, then for none.
        vec![
            Append(0, 100),
            Await(0),
            Append(0, 5_000),
            Await(0),
            Append(0, 9),
            Append(0, 300),
        ],
        // Fills one segment after another, with and without a preallocated one.
        vec![
            Append(0, 40_000),
            Await(0),
            Append(0, 40_000),
            Preallocate,
            Append(0, 40_000),
            Sync,
            Append(0, 30_000),
            Await(0),
            Append(0, 100),
        ],
        // Seals and releases between appends.
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
        // Reopens repeatedly.
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
        // Fills the journal, then releases events.
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
    scripts.extend((1..=5).map(|seed| random_script(seed, MAX_STEPS)));
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
        22..25 => Step::Preallocate,
        25..28 => Step::Seal(0),
        28..30 => Step::Release(0, random.below(4)),
        30 => Step::Reopen,
        _ => Step::Tick,
    }
}

fn run(harness: &mut JournalHarness, script: &[Step]) {
    script.iter().for_each(|step| harness.step(*step));
}

/// Outcomes of a power loss: all or nothing lost, each page or name alone lost or kept, and random
/// losses.
fn losses(harness: &JournalHarness) -> Vec<Loss> {
    let mut losses = vec![Loss::Nothing, Loss::Everything];
    for part in 0..harness.disk.unsynced_changes() {
        losses.extend([Loss::Only(part), Loss::AllBut(part)]);
    }
    losses.extend((0..4).map(Loss::Random));
    losses
}

/// Opens the journal, appends events, and crashes or loses power again: no durable event is lost.
fn check_continuation(mut harness: JournalHarness) {
    use Step::*;
    assert!(harness.open());
    run(&mut harness, &[Append(0, 100), Await(0), Append(0, 100)]);
    assert!(harness.after_power_loss(Loss::Everything).open());
    assert!(harness.after_crash().open());
}

/// Checks a crash and every power loss at this moment.
fn check_every_end(harness: &JournalHarness) -> u64 {
    check_continuation(harness.after_crash());
    let losses = losses(harness);
    let ends = 1 + losses.len() as u64;
    for loss in losses {
        with_case_name(&format!("{loss:?}"), || {
            check_continuation(harness.after_power_loss(loss))
        });
    }
    ends
}

/// Runs `act` and prints the case if it panics.
fn with_case_name<T>(case: &str, act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        eprintln!("failed case: {case}");
        std::panic::resume_unwind(panic)
    })
}

/// Runs the cases on all cores.
fn run_in_parallel(cases: Vec<(String, impl FnOnce() -> u64 + Send)>) -> u64 {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let queue = std::sync::Mutex::new(cases.into_iter());
    thread::scope(|scope| {
        let worker = || {
            let mut ends = 0;
            loop {
                let next = queue.lock().expect("no holder panics").next();
                let Some((name, case)) = next else {
                    return ends;
                };
                ends += with_case_name(&name, case);
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
    let mut harness = JournalHarness::new(0, 1, MAX_SEGMENTS);
    run(&mut harness, script);
    harness.disk.operations()
}

#[test]
fn crash_at_every_op_preserves_acknowledged_data() {
    let mut cases = Vec::new();
    for (number, script) in scripts().into_iter().enumerate() {
        for at in 0..=operations(&script) {
            let script = script.clone();
            let name = format!("script {number} {script:?} stopped at operation {at}");
            cases.push((name, move || {
                let mut harness = JournalHarness::new(0, 1, MAX_SEGMENTS);
                harness.disk.inject_fault_at(at, Fault::Stop);
                run(&mut harness, &script);
                check_every_end(&harness)
            }));
        }
    }
    let (points, ends) = (cases.len(), run_in_parallel(cases));
    println!("{points} points, {ends} ends");
}

#[test]
fn disk_error_at_every_op_preserves_acknowledged_data() {
    let mut cases = Vec::new();
    for (number, script) in scripts().into_iter().enumerate() {
        for at in 0..operations(&script) {
            for fault in [Fault::NoSpace, Fault::IoError] {
                let script = script.clone();
                let name = format!("script {number} {script:?}, {fault:?} at operation {at}");
                cases.push((name, move || {
                    let mut harness = JournalHarness::new(at, 1, MAX_SEGMENTS);
                    harness.oracle.faulty = true;
                    harness.disk.inject_fault_at(at, fault);
                    run(&mut harness, &script);
                    harness.check_counted();
                    check_every_end(&harness)
                }));
            }
        }
    }
    let (points, ends) = (cases.len(), run_in_parallel(cases));
    println!("{points} points, {ends} ends");
}

/// Whether a script breaks a guarantee when it stops at some operation and syncs of this kind do nothing.
fn needs_syncs_of(kind: &str, script: &[Step]) -> bool {
    (0..=operations(script)).any(|stop| {
        let outcome = catch_unwind(|| {
            let mut harness = JournalHarness::new(0, 1, MAX_SEGMENTS);
            harness.disk.skip_syncs_of(kind);
            harness.disk.inject_fault_at(stop, Fault::Stop);
            run(&mut harness, script);
            check_every_end(&harness)
        });
        outcome.is_err()
    })
}

/// A sync that the code leaves out makes other tests here fail.
#[test]
fn every_kind_of_sync_is_needed() {
    let mut needed: BTreeMap<String, bool> = BTreeMap::new();
    for script in scripts() {
        let mut harness = JournalHarness::new(0, 1, MAX_SEGMENTS);
        harness.disk.record_syncs();
        run(&mut harness, &script);
        for kind in harness.disk.synced_kinds() {
            let is_needed = needed.get(&kind) == Some(&true) || needs_syncs_of(&kind, &script);
            needed.insert(kind, is_needed);
        }
    }
    assert!(
        needed.len() > 5 && needed.values().all(|it| *it),
        "{needed:?}"
    );
}

#[test]
fn append_interrupted_at_any_byte_is_atomic() {
    for written in 0..200 {
        let mut harness = JournalHarness::new(written, 1, MAX_SEGMENTS);
        run(
            &mut harness,
            &[Step::Append(0, 50), Step::TornAppend(0, written as usize)],
        );
        run(&mut harness, &[Step::Append(0, 50), Step::Await(0)]);
        check_every_end(&harness);
    }
}
