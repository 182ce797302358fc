//! A short form of each scenario that needs neither root nor another program: everything answered is
//! there, once.
#![allow(missing_docs)]

use loadtest::chaos::{self, Options, Scenario};
use loadtest::interrupt::Interrupt;

fn holds(scenario: Scenario, faults: u32) {
    let options = Options {
        scenario,
        rounds: 1,
        seed: 11,
        faults: Some(faults),
        // Debug builds on two busy cores still answer this many.
        rate: 300.0,
        old: None,
        keep: None,
    };
    let interrupt = Interrupt::listen().expect("signals");
    let verdict = chaos::judge(&options, &interrupt).expect("it drains");
    assert_eq!(
        (verdict.missing, verdict.duplicated, verdict.wrong_ids),
        (0, 0, 0),
        "{verdict:?}"
    );
    assert!(verdict.answered > 0, "{verdict:?}");
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
    holds(Scenario::Partition, 4);
}

#[test]
fn engines_that_stand_still_or_fail_amid_lose_and_double_nothing() {
    holds(Scenario::SlowEngine, 4);
}

#[test]
fn full_journals_lose_only_what_edges_count() {
    holds(Scenario::SpoolFull, 1);
}

#[test]
fn everything_at_once_loses_and_doubles_nothing() {
    holds(Scenario::Everything, 6);
}
