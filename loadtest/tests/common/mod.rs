//! Shared by tests of real processes.
#![allow(dead_code, reason = "each test file uses its own part")]

use loadtest::clickhouse::Analyst;
use loadtest::replay::Outcome;
use loadtest::stack::Stack;
use loadtest::traffic;
use loadtest::verify::{self, Comparison};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a test waits for an event: far more than any takes on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Requests per second of a replay: debug builds on two busy cores still answer this many.
pub(crate) const RATE: f64 = 500.0;

/// Edges, aggregator and engine, with an access log to replay.
pub(crate) struct Deployment {
    pub(crate) stack: Stack,
    pub(crate) analyst: Analyst,
    pub(crate) log: PathBuf,
    // Dropped last, after the processes that use it.
    pub(crate) dir: tempfile::TempDir,
}

impl Deployment {
    /// Starts the edges; the log has `lines` requests.
    pub(crate) fn start(edges: u16, seed: u64, lines: u64) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("sample.log");
        let mut file = std::fs::File::create(&log).expect("file created");
        traffic::write(seed, lines, &mut file).expect("written");
        let stack = Stack::start(dir.path(), edges, None, |_| {}).expect("starts");
        let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
        Self {
            stack,
            analyst,
            log,
            dir,
        }
    }

    pub(crate) fn assert_exactly_once(&self, outcome: &Outcome) -> Comparison {
        assert_exactly_once(&self.analyst, outcome)
    }
}

/// Asserts that every answered request of a replay is stored once.
pub(crate) fn assert_exactly_once(analyst: &Analyst, outcome: &Outcome) -> Comparison {
    let comparison = verify::verify(analyst, outcome, 0, TIMEOUT).expect("comparable");
    assert_eq!(
        (
            comparison.missing,
            comparison.duplicated,
            comparison.wrong_ids
        ),
        (0, 0, 0),
        "{}: {comparison:?}",
        outcome.run
    );
    comparison
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a click to the first edge; its rows have this source.
pub(crate) fn click(stack: &Stack, source: &str) {
    let config = ureq::Agent::config_builder()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build();
    let url = format!("{}/c/boyfanz-home?source={source}", stack.edge_urls[0]);
    let response = ureq::Agent::new_with_config(config).get(url).call();
    assert_eq!(response.expect("response").status(), 302);
}
