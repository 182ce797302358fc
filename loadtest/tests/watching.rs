//! Every query of every panel of the Grafana dashboards, sent to a Prometheus and a ClickHouse that watch real
//! processes under traffic. Grafana itself is not run: its variables and macros are replaced as it documents them.
#![allow(missing_docs)]

#[path = "watching/dashboard.rs"]
mod dashboard;
#[path = "watching/prometheus.rs"]
mod prometheus;

use dashboard::{Panel, Selection};
use loadtest::affiliates::AffiliateTracker;
use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, ReplayOptions};
use loadtest::stack::{Stack, StackOptions};
use loadtest::{demo, traffic, verify};
use prometheus::Prometheus;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

const LINES: u64 = 600;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Rates need some scrapes; everything else is there when the traffic ends.
const PANEL_TIMEOUT: Duration = Duration::from_secs(30);

/// Panels that have no data in this system, with the reason.
const EMPTY: [(&str, &str); 1] = [(
    "Late reports",
    "no edge was away, so that no report arrived after a newer one",
)];

/// Alerts about speed, which debug programs on busy cores may not have.
const SPEED_ALERTS: [&str; 3] = ["EdgeAcceptanceSlow", "EdgeJournalSyncSlow", "FreshnessLow"];

#[test]
fn every_panel_has_data_under_traffic() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let tracker = AffiliateTracker::start().expect("free port");
    let options = StackOptions {
        functions: true,
        aggregator_settings: tracker.settings(dir.path()).expect("written"),
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir.path(), 2, None, &options, |_| {});
    let mut stack = stack.expect("starts");
    let prometheus = Prometheus::start(dir.path(), &stack).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    // A rate needs a scrape from before the traffic.
    wait_for(|| {
        prometheus
            .has_data("sum(up) == 3", true)
            .expect("valid query")
    });
    send_traffic(dir.path(), &mut stack, &analyst, &tracker);
    let mut waiting = dashboard::panels("operations.json");
    waiting.extend(dashboard::panels("traffic.json"));
    let panels = waiting.len();
    let deadline = Instant::now() + PANEL_TIMEOUT;
    while !waiting.is_empty() {
        waiting.retain(|panel| !has_data(panel, &prometheus, &analyst));
        let is_listed = |panel: &Panel| EMPTY.iter().any(|(title, _)| *title == panel.title);
        if waiting.iter().all(is_listed) {
            break;
        }
        let empty: Vec<&str> = waiting.iter().map(|it| it.title.as_str()).collect();
        assert!(Instant::now() < deadline, "panels without data: {empty:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let titles: Vec<&str> = waiting.iter().map(|it| it.title.as_str()).collect();
    let listed: Vec<&str> = EMPTY.iter().map(|(title, _)| *title).collect();
    assert_eq!(
        titles, listed,
        "a listed panel has data: remove it from the list"
    );
    assert!(panels > 60, "{panels} panels");
    let mut alerts = prometheus.active_alerts().expect("listed");
    alerts.retain(|alert| {
        !SPEED_ALERTS
            .iter()
            .any(|name| alert["labels"]["alertname"] == *name)
    });
    assert!(alerts.is_empty(), "alerts of a sound system: {alerts:?}");
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PANEL_TIMEOUT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "Prometheus scrapes not all programs"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Visits from a log, sales for a share of them, and postbacks to affiliates.
fn send_traffic(dir: &Path, stack: &mut Stack, analyst: &Analyst, tracker: &AffiliateTracker) {
    let log = dir.join("sample.log");
    let mut file = File::create(&log).expect("file created");
    traffic::write(42, LINES, &mut file).expect("written");
    let options = ReplayOptions::new(&log, &stack.edge_urls, "test");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let outcome = runtime.block_on(replay::run(options)).expect("replays");
    verify::verify(analyst, &outcome, 0, ARRIVAL_TIMEOUT).expect("comparable");
    let sales = demo::report_sales(stack, analyst, "test", 0).expect("the tables hold the sales");
    demo::check_affiliate_postbacks(tracker, &sales).expect("affiliates received each postback");
}

fn has_data(panel: &Panel, prometheus: &Prometheus, analyst: &Analyst) -> bool {
    panel.queries.iter().all(|query| {
        let outcome = match &query.expression {
            Some(expression) => prometheus.has_data(&dashboard::promql(expression), query.instant),
            None => sql_has_data(query.sql.as_deref().unwrap_or_default(), analyst),
        };
        outcome.unwrap_or_else(|error| panic!("{}: {error:#}", panel.title))
    })
}

/// The query for all values of the variables, and for chosen ones.
fn sql_has_data(sql: &str, analyst: &Analyst) -> anyhow::Result<bool> {
    for selection in [Selection::All, Selection::Chosen] {
        let result = analyst.query(&dashboard::sql(sql, selection)?)?;
        let is_value = |value: &String| !matches!(value.as_str(), "" | "0" | "nan" | "ᴺᵁᴸᴸ");
        if !result.rows.iter().flatten().any(is_value) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn variables_and_macros_are_replaced() {
    let table = [
        (
            "$__timeFilter(a(b))",
            "a(b) >= toDateTime(0) AND a(b) <= toDateTime(4294967295)",
        ),
        (
            "$__timeInterval(t) AS t",
            "toStartOfInterval(toDateTime(t), INTERVAL 60 second) AS t",
        ),
        (
            "$__conditionalAll(toString(node) IN (${node:singlequote}), $node) AND x",
            "toString(node) IN ('1','2') AND x",
        ),
    ];
    for (sql, expected) in table {
        assert_eq!(
            dashboard::sql(sql, Selection::Chosen).expect("known"),
            expected
        );
    }
    let all = dashboard::sql(table[2].0, Selection::All).expect("known");
    assert_eq!(all, "1=1 AND x");
    assert!(dashboard::sql("SELECT $__other(a)", Selection::All).is_err());
}
