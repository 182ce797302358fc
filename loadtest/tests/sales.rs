//! Sales reported while edges and the aggregator are killed, by senders that try again: the tables hold
//! each once, and every refusal by its reason; affiliates are told of every one.
#![allow(missing_docs)]

use loadtest::affiliates::Tracker;
use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, Options};
use loadtest::stack::{Stack, Wiring};
use loadtest::{demo, links, traffic, verify};
use std::sync::Arc;
use std::time::Duration;

const LINES: u64 = 1_500;
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn sales_are_counted_once_whatever_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("sample.log");
    let mut file = std::fs::File::create(&log).expect("a file");
    traffic::write(42, LINES, &mut file).expect("written");
    let tracker = Tracker::start().expect("a port");
    let wiring = Wiring {
        functions: true,
        aggregator_settings: tracker.settings(folder.path()).expect("written"),
        ..Wiring::default()
    };
    let stack = Stack::start_wired(folder.path(), 2, None, &wiring, |_| {});
    let mut stack = stack.expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    let options = Options {
        log,
        targets: stack.edge_urls.clone(),
        slugs: links::sample_slugs(),
        rate: None,
        connections: 4,
        limit: None,
        repeat: 1,
        run: "test".into(),
        progress: false,
        stop: Arc::default(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let outcome = runtime.block_on(replay::run(options)).expect("replays");
    let compare = || verify::verify(&analyst, &outcome, 0, ARRIVE_WITHIN).expect("comparable");
    compare();
    let sales = demo::sell(&mut stack, &analyst, "test", 2).expect("the tables hold what was sent");
    assert!(sales.conversions > 300, "{sales:?}");
    assert!(sales.revisions > 0 && sales.duplicates > 0 && sales.kyc_updates > 0);
    let reasons: Vec<u16> = sales.refused.keys().copied().collect();
    assert_eq!(reasons, [103, 106, 108, 112, 202]);
    let told = demo::tell(&tracker, &sales).expect("affiliates were told of each");
    assert!(told.retried > 0, "{told:?}");
    let verdict = compare();
    assert_eq!(
        (verdict.missing, verdict.duplicated, verdict.wrong_ids),
        (0, 0, 0),
        "{verdict:?}"
    );
}
