//! Sales reported while edges and the aggregator are killed, by senders that retry. The tables hold each sale once
//! and every rejection with its reason, and affiliates receive every postback.
#![allow(missing_docs)]

mod common;

use common::assert_exactly_once;
use loadtest::affiliates::AffiliateTracker;
use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, ReplayOptions};
use loadtest::stack::{Stack, StackOptions};
use loadtest::{demo, traffic};

const LINES: u64 = 1_500;

#[test]
fn sales_are_counted_once_despite_kills() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = dir.path().join("sample.log");
    let mut file = std::fs::File::create(&log).expect("file created");
    traffic::write(42, LINES, &mut file).expect("written");
    let tracker = AffiliateTracker::start().expect("free port");
    let options = StackOptions {
        functions: true,
        aggregator_settings: tracker.settings(dir.path()).expect("written"),
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir.path(), 2, None, &options, |_| {});
    let mut stack = stack.expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    let options = ReplayOptions::new(&log, &stack.edge_urls, "test");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let outcome = runtime.block_on(replay::run(options)).expect("replays");
    assert_exactly_once(&analyst, &outcome);
    let sales = demo::report_sales(&mut stack, &analyst, "test", 2)
        .expect("the tables hold the sent sales");
    assert!(sales.conversions > 300, "{sales:?}");
    assert!(sales.revisions > 0 && sales.duplicates > 0 && sales.kyc_updates > 0);
    let reasons: Vec<u16> = sales.rejected.keys().copied().collect();
    assert_eq!(reasons, [103, 106, 108, 112, 202]);
    let delivered = demo::check_affiliate_postbacks(&tracker, &sales)
        .expect("affiliates received each postback");
    assert!(delivered.retried > 0, "{delivered:?}");
    assert_exactly_once(&analyst, &outcome);
}
