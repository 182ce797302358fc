//! A short run of hostile reports against a real edge with the deployed functions: no forgery is accepted, no
//! authentic report is rejected, and the tables match the responses.
#![allow(missing_docs)]

use loadtest::hostile::{self, Options};

#[test]
fn rejects_all_forgeries_and_accepts_authentic_reports() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        requests: 5_000,
        seed: 7,
        connections: 16,
        first: 0,
    };
    let report = hostile::run_in(&options, dir.path(), None).expect("the run completes");
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert_eq!(report.accepted_forgeries, 0);
    assert!(report.sent >= options.requests, "{report:?}");
    assert!(report.taken > options.requests / 10, "{report:?}");
    assert!(report.refused > options.requests / 2, "{report:?}");
    assert!(report.not_http > 0 && report.stated_5xx > 0, "{report:?}");
}
