//! A short form of each scenario: everything answered is there, once. What this machine does not allow is
//! left out, and said.
#![allow(missing_docs)]

use loadtest::chaos::{self, Options, Scenario};
use loadtest::interrupt::Interrupt;

fn holds(scenario: Scenario, faults: u32) {
    if let Err(error) = tried(scenario, faults) {
        panic!("{error:#}");
    }
}

/// For what needs root or another program.
fn holds_where_possible(scenario: Scenario, faults: u32, needed: &str) {
    match tried(scenario, faults) {
        Err(error) if format!("{error:#}").contains(needed) => {
            println!("{scenario:?} is left out: {error:#}");
        }
        tried => tried.expect("it drains"),
    }
}

fn tried(scenario: Scenario, faults: u32) -> anyhow::Result<()> {
    let here = std::env::current_exe()?;
    let programs = here.ancestors().nth(2).map(Into::into);
    let options = Options {
        scenario,
        rounds: 1,
        seed: 11,
        faults: Some(faults),
        // Debug builds on two busy cores still answer this many. The more come, the sooner a disk is full.
        rate: if scenario == Scenario::DiskFull {
            600.0
        } else {
            300.0
        },
        // The same build: what is tried is the swapping.
        old: programs,
        keep: None,
    };
    let verdict = chaos::judge(&options, &Interrupt::listen()?)?;
    assert_eq!(
        (verdict.missing, verdict.duplicated, verdict.wrong_ids),
        (0, 0, 0),
        "{verdict:?}"
    );
    assert!(verdict.answered > 0, "{verdict:?}");
    assert_eq!(verdict.contradicted, 0, "{verdict:?}");
    assert_eq!(verdict.alerts, verdict.intrusions, "{verdict:?}");
    Ok(())
}

#[test]
fn killed_edges_lose_and_double_nothing() {
    holds(Scenario::KillEdge, 8);
}

#[test]
fn killed_aggregators_lose_and_double_nothing() {
    holds(Scenario::KillAggregator, 8);
}

#[test]
fn killed_engines_lose_and_double_nothing() {
    holds(Scenario::KillEngine, 2);
}

#[test]
fn failing_networks_lose_and_double_nothing() {
    holds(Scenario::Partition, 6);
}

#[test]
fn engines_that_stand_still_or_fail_amid_lose_and_double_nothing() {
    holds(Scenario::SlowEngine, 6);
}

#[test]
fn full_journals_lose_only_what_edges_count() {
    holds(Scenario::SpoolFull, 1);
}

#[test]
fn everything_at_once_loses_and_doubles_nothing() {
    holds(Scenario::Everything, 24);
}

#[test]
fn full_disks_lose_only_what_edges_count() {
    holds_where_possible(Scenario::DiskFull, 4, "needs root");
}

#[test]
fn clocks_that_jump_lose_and_double_nothing() {
    holds_where_possible(Scenario::ClockJump, 3, "libfaketime is needed");
}

#[test]
fn swapped_programs_lose_and_double_nothing() {
    holds(Scenario::Upgrade, 4);
}

#[test]
fn restored_edges_lose_and_double_nothing() {
    holds(Scenario::RestoredEdge, 2);
}

#[test]
fn cloned_edges_lose_and_double_nothing() {
    holds(Scenario::ClonedEdge, 2);
}

#[test]
fn stolen_certificate_changes_nothing_and_is_alerted() {
    holds(Scenario::StolenCertificate, 4);
}

#[test]
fn lost_aggregators_lose_and_double_nothing() {
    holds(Scenario::LostAggregator, 3);
}

#[test]
fn late_reports_contradict_no_conversion() {
    holds(Scenario::LateReports, 3);
}

#[test]
fn wrong_clocks_lose_nothing_and_are_alerted() {
    holds_where_possible(Scenario::WrongClock, 4, "libfaketime is needed");
}
