//! Metrics that operators alert on.
#![allow(missing_docs)]

mod harness;

use harness::directory::{Directory, reloads, replace, settings};

#[test]
fn alerting_series_exist_from_the_start() {
    let edge = Directory::new().start();
    let (_, text) = edge.admin_page("/metrics");
    for series in [
        "build_info{program=\"edge-tracker\",version=",
        "process_cpu_seconds_total ",
        "process_start_time_seconds ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_max_fds ",
        "edge_reloads_total{file=\"links\",outcome=\"refused\"} 0",
        "edge_reloads_total{file=\"advertisers\",outcome=\"refused\"} 0",
        "edge_reloads_total{file=\"certificates\",outcome=\"refused\"} 0",
        "edge_reloads_total{file=\"agents\",outcome=\"refused\"} 0",
        "edge_reloads_total{file=\"geo\",outcome=\"refused\"} 0",
        "edge_lost_total{reason=\"spool_full\"} 0",
        "edge_refused_total{reason=\"unknown_link\"} 0",
        "edge_trust_changes_total{change=\"salt_refused\"} 0",
        "edge_trust_changes_total{change=\"clock_stepped\"} 0",
        "edge_aggregator_disconnects_total{reason=\"revoked\"} 0",
        "edge_journal_disputes_total{reason=",
        "edge_reports_total{kind=\"conversion\",outcome=\"not_durable\"} 0",
        "edge_reports_total{kind=\"rejection\",outcome=\"too_slow\"} 0",
        "edge_internal_api_connections 0",
        "edge_reloads_total{file=\"internal_api_token\",outcome=\"refused\"} 0",
        "edge_reports_total{kind=\"rejection\",outcome=\"counted\"} 0",
        "edge_reports_total{kind=\"unknown\",outcome=\"unknown\"} 0",
        "edge_rejections_total{outcome=\"not_logged\",reason=\"not_authentic\"} 0",
        "function_errors_total{function=\"postback\",reason=\"function_trapped\"} 0",
        "edge_agent_cache_entries ",
        "edge_agent_cache_misses_total ",
        "edge_unique_filter_entries 0",
        "edge_unique_filter_bytes ",
        "edge_unique_filter_false_positive_ratio 0",
        "edge_unique_filter_save_failures_total 0",
        "edge_listen_drops_total ",
        "edge_journal_bytes ",
        "edge_journal_segments ",
        "edge_journal_syncs_total ",
        "edge_journal_sync_failures_total 0",
        "edge_journal_last_sync_duration_seconds ",
        "edge_journal_unsynced_seconds ",
        "edge_clock_wrong 0",
        "edge_clock_ahead_of_aggregator_seconds ",
        "edge_visitor_salt_period ",
        "edge_visitor_salt_provisional ",
    ] {
        assert!(
            text.contains(&format!("\n{series}")),
            "no {series} in {text}"
        );
    }
    // Impossible combinations have no series.
    for series in [
        "edge_aggregator_disconnects_total{reason=\"stopping\"}",
        "edge_reports_total{kind=\"conversion\",outcome=\"counted\"}",
        "edge_reports_total{kind=\"kyc_update\",outcome=\"counted\"}",
    ] {
        assert!(!text.contains(series), "{series} in {text}");
    }
}

#[test]
fn every_metric_is_documented() {
    let edge = Directory::new().start();
    let (_, text) = edge.admin_page("/metrics");
    let documented = include_str!("../../docs/metrics.md");
    for line in text.lines().filter_map(|it| it.strip_prefix("# HELP ")) {
        let name = line.split(' ').next().unwrap_or(line);
        let row = format!("| `{name}` |");
        assert!(documented.contains(&row), "{name}: add it to reference.rs");
    }
}

#[test]
fn refused_geo_file_is_counted() {
    let directory = Directory::new();
    directory.write(
        "edge.toml",
        &(settings("") + "[geo]\ncountry = \"country.mmdb\"\n"),
    );
    let edge = directory.start();
    replace(&edge, "country.mmdb", "<html>Too many requests</html>");
    edge.await_metric("edge_reloads_total", &reloads("geo", "refused"), 1);
    assert_eq!(
        edge.metric("edge_reloads_total", &reloads("geo", "loaded")),
        0
    );
}
