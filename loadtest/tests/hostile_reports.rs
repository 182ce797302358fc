//! A short run of hostile reports against a real edge with the functions that are deployed: no forgery is
//! taken, nothing authentic refused, and the tables hold what was answered.
#![allow(missing_docs)]

use loadtest::hostile::{self, Options};

#[test]
fn no_forgery_is_taken_and_nothing_authentic_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        requests: 5_000,
        seed: 7,
        connections: 16,
        first: 0,
    };
    let verdict = hostile::judge(&options, folder.path(), None).expect("it can be tried");
    assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
    assert_eq!(verdict.accepted_forgeries, 0);
    assert!(verdict.sent >= options.requests, "{verdict:?}");
    assert!(verdict.taken > options.requests / 10, "{verdict:?}");
    assert!(verdict.refused > options.requests / 2, "{verdict:?}");
    assert!(
        verdict.not_http > 0 && verdict.stated_5xx > 0,
        "{verdict:?}"
    );
}
