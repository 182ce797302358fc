//! A short run of each scenario: every answered click is stored exactly once. Scenarios that this machine does not
//! support are skipped with a message.
#![allow(missing_docs)]

use loadtest::chaos::{self, ChaosOptions, Scenario};
use loadtest::interrupt::Interrupt;

fn assert_nothing_lost(scenario: Scenario, faults: u32) {
    if let Err(error) = run_scenario(scenario, faults) {
        panic!("{error:#}");
    }
}

/// Runs a scenario that needs root or another program.
fn assert_nothing_lost_if_supported(scenario: Scenario, faults: u32, needed: &str) {
    match run_scenario(scenario, faults) {
        Err(error) if format!("{error:#}").contains(needed) => {
            println!("{scenario:?} is skipped: {error:#}");
        }
        result => result.expect("all events arrive"),
    }
}

fn run_scenario(scenario: Scenario, faults: u32) -> anyhow::Result<()> {
    let here = std::env::current_exe()?;
    let programs = here.ancestors().nth(2).map(Into::into);
    let options = ChaosOptions {
        scenario,
        rounds: 1,
        seed: 11,
        faults: Some(faults),
        // Debug builds on two busy cores still answer this many. More requests fill a disk sooner.
        rate: if scenario == Scenario::DiskFull {
            600.0
        } else {
            300.0
        },
        // The same build: this tests the exchange of programs, not their compatibility.
        old: programs,
        new: None,
        keep: None,
    };
    let verdict = chaos::run_scenario(&options, &Interrupt::listen()?)?;
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
fn edge_kills_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::KillEdge, 8);
}

#[test]
fn aggregator_kills_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::KillAggregator, 8);
}

#[test]
fn clickhouse_kills_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::KillEngine, 2);
}

#[test]
fn network_faults_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::Partition, 6);
}

#[test]
fn clickhouse_stall_or_crash_loses_nothing() {
    assert_nothing_lost(Scenario::SlowEngine, 6);
}

#[test]
fn full_journals_lose_only_counted_clicks() {
    assert_nothing_lost(Scenario::SpoolFull, 1);
}

#[test]
fn concurrent_faults_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::Everything, 24);
}

#[test]
fn full_disks_lose_only_counted_clicks() {
    assert_nothing_lost_if_supported(Scenario::DiskFull, 4, "needs root");
}

#[test]
fn clock_jumps_lose_and_duplicate_nothing() {
    assert_nothing_lost_if_supported(Scenario::ClockJump, 3, "libfaketime is needed");
}

#[test]
fn upgrade_and_rollback_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::Upgrade, 4);
}

#[test]
fn restored_edges_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::RestoredEdge, 2);
}

#[test]
fn cloned_edges_lose_and_duplicate_nothing() {
    assert_nothing_lost(Scenario::ClonedEdge, 2);
}

#[test]
fn scaling_in_and_out_loses_and_duplicates_nothing() {
    assert_nothing_lost(Scenario::ScaleIn, 2);
}

#[test]
fn stolen_certificate_has_no_effect_and_is_alerted() {
    assert_nothing_lost(Scenario::StolenCertificate, 4);
}

#[test]
fn lost_aggregator_data_loses_and_duplicates_nothing() {
    assert_nothing_lost(Scenario::LostAggregator, 3);
}

#[test]
fn late_reports_leave_conversions_right() {
    assert_nothing_lost(Scenario::LateReports, 3);
}

#[test]
fn wrong_clocks_lose_nothing_and_are_alerted() {
    assert_nothing_lost_if_supported(Scenario::WrongClock, 4, "libfaketime is needed");
}
