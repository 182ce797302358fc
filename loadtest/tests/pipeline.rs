//! The whole pipeline with real processes: totals are right, also after killed processes.
#![allow(missing_docs)]

mod common;

use common::{Deployment, RATE, wait_until};
use loadtest::replay::{self, Outcome};
use loadtest::stack::Stack;

const LINES: u64 = 3_000;
const SEED: u64 = 42;

fn pipeline() -> Deployment {
    Deployment::start(2, SEED, LINES)
}

/// Replays the log and injects `fault` once a third of it is in ClickHouse.
fn replay_with(pipeline: &mut Deployment, fault: impl FnOnce(&mut Stack)) -> Outcome {
    let options = replay::ReplayOptions {
        rate: Some(RATE),
        ..replay::ReplayOptions::new(&pipeline.log, &pipeline.stack.edge_urls, "test")
    };
    let replaying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(replay::run(options)).expect("replays")
    });
    wait_until("a third of the events", || {
        let ids = pipeline.analyst.external_ids("test");
        ids.is_ok_and(|ids| ids.len() as u64 >= LINES / 3)
    });
    assert!(
        !replaying.is_finished(),
        "the fault would be injected too late"
    );
    fault(&mut pipeline.stack);
    replaying.join().expect("replays")
}

/// Asserts that every answered request is stored once and every unanswered one at most once.
fn assert_exactly_once(pipeline: &Deployment, outcome: &Outcome) {
    let comparison = pipeline.assert_exactly_once(outcome);
    let counts = &comparison.counts;
    assert_eq!(
        counts.clicks + counts.impressions + counts.flagged,
        comparison.rows
    );
    assert_eq!(counts.unique_clicks + counts.repeated_clicks, counts.clicks);
    let answered = outcome.answered.len() as u64;
    assert!((answered..=answered + outcome.unanswered.len() as u64).contains(&comparison.rows));
    let rolled = pipeline
        .analyst
        .query("SELECT (SELECT sum(counted + bots + prefetches + heads) FROM clicks_by_hour) - (SELECT count() FROM clicks)")
        .expect("response");
    assert_eq!(rolled.rows[0][0], "0", "the hourly sums match the table");
}

#[test]
fn every_request_is_counted_once() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |_| {});
    assert_eq!(outcome.sent, LINES);
    assert_eq!(
        outcome.answered.len() as u64,
        LINES,
        "{:?}",
        outcome.by_status
    );
    assert_exactly_once(&pipeline, &outcome);
    let counts = pipeline.analyst.counts("test").expect("response");
    assert!(
        counts.bot_clicks > 0 && counts.head > 0 && counts.repeated_clicks > 0,
        "{counts:?}"
    );
    assert_eq!(counts.prefetch, 0);
    pipeline.stack.stop().expect("stops in order");
}

#[test]
fn edge_kill_loses_and_duplicates_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        for edge in &mut stack.edges {
            edge.kill().expect("killed");
            edge.restart().expect("restarts");
        }
    });
    assert_exactly_once(&pipeline, &outcome);
}

#[test]
fn aggregator_kill_loses_and_duplicates_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        for _ in 0..3 {
            stack.aggregator.kill().expect("killed");
            stack.aggregator.restart().expect("restarts");
        }
    });
    assert_eq!(
        outcome.answered.len() as u64,
        LINES,
        "all requests are answered"
    );
    assert_exactly_once(&pipeline, &outcome);
}

#[test]
fn clickhouse_kill_loses_and_duplicates_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        stack.engine.kill().expect("killed");
        stack.engine.restart().expect("restarts");
    });
    assert_eq!(
        outcome.answered.len() as u64,
        LINES,
        "all requests are answered"
    );
    assert_exactly_once(&pipeline, &outcome);
}
