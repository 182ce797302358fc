//! Edges with a wrong system clock: clicks continue, functions wait, and no correct time is lost.
#![allow(missing_docs)]

mod harness;

use domain::Micros;
use harness::faketime::FakeClock;
use harness::fleet::WelcomingAggregator;
use harness::functions::deploy;
use harness::{Edge, journal};
use std::time::Duration;
use tracking_events::{ClickId, Flags};
use trusted_clock::EARLIEST_TIME;

const DAY: i64 = 86_400;

/// An edge with a clock of its own, set ahead by `seconds`; none without libfaketime.
fn edge(seconds: i64, more: &str) -> Option<(Edge, FakeClock)> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = FakeClock::make(&dir.path().join("clock"), seconds)?;
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    let manifest = deploy(dir.path());
    let before = clock.words();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let more = format!("{more}[functions]\nmanifest = {manifest:?}\n");
    Some((Edge::lone_in(dir, &before, &more), clock))
}

#[test]
fn step_is_not_followed_and_functions_wait() {
    let Some((edge, clock)) = edge(0, "") else {
        return;
    };
    assert_eq!(edge.admin_page("/readyz").0, 200);
    assert_eq!(edge.get("/c/spring").status, 302);
    clock.set(30 * DAY);
    edge.await_metric("edge_clock_wrong", "", 1);
    let (status, why) = edge.admin_page("/readyz");
    assert_eq!(status, 503);
    assert!(
        why.contains("not ready: clock: the system clock is "),
        "{why}"
    );

    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"clock_wrong\""), 1);
    assert_eq!(
        edge.metric("edge_marked_total", "\"repeated\""),
        1,
        "the filters are not emptied"
    );
    let response = edge.get("/postback/plain?click_id=x");
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.text().contains("(reason 30)"), "{response:?}");
    assert!(response.header("retry-after").is_some(), "{response:?}");

    clock.set(0);
    edge.await_metric("edge_trust_changes_total", "clock_agrees_again", 1);
    assert_eq!(edge.admin_page("/readyz").0, 200);
    assert_ne!(edge.get("/postback/plain?click_id=x").status, 503);

    let now = Micros::now();
    let visits = journal::clicks(edge.kill9().path(), 1);
    let marks: Vec<bool> = visits
        .iter()
        .map(|it| it.flags().any(Flags::CLOCK_WRONG))
        .collect();
    assert_eq!(marks, [false, true]);
    for visit in visits {
        let age = Duration::from_micros(now.0.abs_diff(visit.time.0));
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}

#[test]
fn steady_step_is_accepted_after_the_configured_time() {
    let Some((edge, clock)) = edge(0, "[clock]\naccept_step_after = \"1s\"\n") else {
        return;
    };
    clock.set(DAY);
    edge.await_metric("edge_trust_changes_total", "clock_step_accepted", 1);
    assert_eq!(edge.admin_page("/readyz").0, 200);
    assert_ne!(edge.get("/postback/plain?click_id=x").status, 503);
}

#[test]
fn impossible_time_at_start_is_replaced_by_the_aggregators() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let aggregator = WelcomingAggregator::start(dir.path(), None);
    let more = format!(
        "[tls]\ndir = \"{}/tls\"\ndevelopment = true\n[aggregator]\naddress = \"{}\"\n",
        dir.path().display(),
        aggregator.address
    );
    let Some((edge, _clock)) = edge(-30 * 366 * DAY, &more) else {
        return;
    };
    edge.await_metric("edge_trust_changes_total", "clock_anchored", 1);
    assert_eq!(edge.get("/c/spring").status, 302);
    // Its own clock is still wrong.
    let (status, why) = edge.admin_page("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("not ready: clock: "), "{why}");
    assert_eq!(edge.get("/postback/plain?click_id=x").status, 503);
    let clicks = journal::clicks(edge.kill9().path(), 1);
    assert!(clicks[0].flags().any(Flags::CLOCK_WRONG));
    assert!(!clicks[0].flags().any(Flags::TIME_UNKNOWN));
    let age = Duration::from_micros(Micros::now().0.abs_diff(clicks[0].time.0));
    assert!(age < Duration::from_secs(60), "{age:?}");
}

#[test]
fn impossible_time_without_an_aggregator_is_marked() {
    let Some((edge, clock)) = edge(-30 * 366 * DAY, "") else {
        return;
    };
    let (status, why) = edge.admin_page("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("the system clock shows 19"), "{why}");
    let response = edge.get("/c/spring?sub1=x");
    assert_eq!(response.status, 302);
    // The click's id must convert: its time is an estimate that is in bounds.
    let id = response.location().split("cid=").nth(1).expect("click id");
    let id = ClickId::parse(id.split('&').next().expect("click id").as_bytes()).expect("click id");
    assert!(
        id.parts().time >= Micros(EARLIEST_TIME.0 / 1_000 * 1_000),
        "{:?}",
        id.parts()
    );
    assert_eq!(edge.metric("edge_marked_total", "\"time_unknown\""), 1);
    clock.set(0);
    edge.await_metric("edge_trust_changes_total", "clock_anchored", 1);
    assert_eq!(edge.admin_page("/readyz").0, 200);
    assert_eq!(edge.get("/c/spring").status, 302);
    let clicks = journal::clicks(edge.kill9().path(), 1);
    let marks: Vec<bool> = clicks
        .iter()
        .map(|it| it.flags().any(Flags::TIME_UNKNOWN))
        .collect();
    assert_eq!(marks, [true, false]);
}
