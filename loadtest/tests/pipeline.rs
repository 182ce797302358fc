//! The whole pipeline with real processes: totals are right, and `kill -9` changes none of them.
#![allow(missing_docs)]

use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, Outcome};
use loadtest::stack::Stack;
use loadtest::{links, traffic, verify};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LINES: u64 = 3_000;
const SEED: u64 = 42;
/// Debug builds on two busy cores still answer this many.
const RATE: f64 = 500.0;
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);

struct Pipeline {
    stack: Stack,
    analyst: Analyst,
    log: PathBuf,
    // Last, so that the processes are gone before their folder is.
    _folder: tempfile::TempDir,
}

fn pipeline() -> Pipeline {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("sample.log");
    let mut file = std::fs::File::create(&log).expect("a file");
    traffic::write(SEED, LINES, &mut file).expect("written");
    let stack = Stack::start(folder.path(), 2, None, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    Pipeline {
        stack,
        analyst,
        log,
        _folder: folder,
    }
}

fn options(stack: &Stack, log: &Path) -> replay::Options {
    replay::Options {
        log: log.into(),
        targets: stack.edge_urls.clone(),
        slugs: links::sample_slugs(),
        rate: Some(RATE),
        connections: 4,
        limit: None,
        repeat: 1,
        run: "test".into(),
        progress: false,
        stop: Arc::default(),
    }
}

/// Replays the log; `fault` strikes when ClickHouse has seen a third of it.
fn replay_with(pipeline: &mut Pipeline, fault: impl FnOnce(&mut Stack)) -> Outcome {
    let options = options(&pipeline.stack, &pipeline.log);
    let replaying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(replay::run(options)).expect("replays")
    });
    let deadline = Instant::now() + ARRIVE_WITHIN;
    while pipeline
        .analyst
        .external_ids("test")
        .map_or(0, |ids| ids.len() as u64)
        < LINES / 3
    {
        assert!(Instant::now() < deadline, "nothing arrives");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!replaying.is_finished(), "the fault would strike too late");
    fault(&mut pipeline.stack);
    replaying.join().expect("replays")
}

/// Every answered request is there once; what was not answered is there at most once.
fn assert_exactly_once(pipeline: &Pipeline, outcome: &Outcome) {
    let verdict = verify::verify(&pipeline.analyst, outcome, 0, ARRIVE_WITHIN).expect("comparable");
    assert_eq!(
        (verdict.missing, verdict.duplicated, verdict.wrong_ids),
        (0, 0, 0),
        "{verdict:?}"
    );
    let counts = &verdict.counts;
    assert_eq!(
        counts.clicks + counts.impressions + counts.flagged,
        verdict.rows
    );
    assert_eq!(counts.unique_clicks + counts.repeated_clicks, counts.clicks);
    let answered = outcome.answered.len() as u64;
    assert!((answered..=answered + outcome.unanswered.len() as u64).contains(&verdict.rows));
    let rolled = pipeline
        .analyst
        .query("SELECT (SELECT sum(counted + bots + prefetches + heads) FROM clicks_by_hour) - (SELECT count() FROM clicks)")
        .expect("answered");
    assert_eq!(rolled.rows[0][0], "0", "the roll-up has what the table has");
}

#[test]
fn everything_sent_is_counted_once_and_rightly() {
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
    let counts = pipeline.analyst.counts("test").expect("answered");
    assert!(
        counts.bot_clicks > 0 && counts.head > 0 && counts.repeated_clicks > 0,
        "{counts:?}"
    );
    assert_eq!(counts.prefetch, 0);
    pipeline.stack.stop().expect("stops in order");
}

#[test]
fn killing_an_edge_loses_and_doubles_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        for edge in &mut stack.edges {
            edge.kill9().expect("killed");
            edge.restart().expect("starts again");
        }
    });
    assert_exactly_once(&pipeline, &outcome);
}

#[test]
fn killing_the_aggregator_loses_and_doubles_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        for _ in 0..3 {
            stack.aggregator.kill9().expect("killed");
            stack.aggregator.restart().expect("starts again");
        }
    });
    assert_eq!(
        outcome.answered.len() as u64,
        LINES,
        "visitors notice nothing"
    );
    assert_exactly_once(&pipeline, &outcome);
}

#[test]
fn killing_clickhouse_loses_and_doubles_nothing() {
    let mut pipeline = pipeline();
    let outcome = replay_with(&mut pipeline, |stack| {
        stack.engine.kill9().expect("killed");
        stack.engine.restart().expect("starts again");
    });
    assert_eq!(
        outcome.answered.len() as u64,
        LINES,
        "visitors notice nothing"
    );
    assert_exactly_once(&pipeline, &outcome);
}
