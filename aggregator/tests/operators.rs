//! Operations on an aggregator: signals, directories, a store that moves or becomes unavailable, and pages of the admin
//! port.

mod common;

use common::edge::{Edge, click_id_at};
use common::engine::Engine;
use common::process::Process;
use common::receiver::Receiver;
use common::reports::{CYCLE, OUTCOMES, report};
use common::{NODE, ask, client, metric, page, until, write_private, write_settings};
use domain::Micros;
use sql_store::test_server::TestServer;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};
use tracking_events::{Conversion, Event, Visit};

const NO_CLICKHOUSE: &str = "url = \"http://127.0.0.1:9\"";
const LAG: &str = "aggregator_lane_lag{lane=\"0\",node=\"21\"}";

/// Runs a command that is to end by itself; one that serves instead is ended after a minute.
fn run(arguments: &[&str], config: &Path) -> Output {
    Command::new("timeout")
        .args(["--kill-after=10", "60", env!("CARGO_BIN_EXE_aggregator")])
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .expect("program runs")
}

/// The output of a command that fails.
fn error_output(arguments: &[&str], config: &Path) -> String {
    let output = run(arguments, config);
    let printed = String::from_utf8(output.stderr).expect("text");
    let ended_itself = !matches!(output.status.code(), None | Some(124 | 137));
    assert!(ended_itself && !output.status.success(), "{printed}");
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangups_do_not_stop_an_aggregator() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut aggregator = Process::start(&write_settings(dir.path(), NO_CLICKHOUSE, ""));
    aggregator.signal("-HUP");
    // Signals are delivered in order: if the first ended the process, this shows it.
    assert_eq!(page(aggregator.admin, "/healthz").await.0, 200);
    assert!(aggregator.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_of_a_running_aggregator_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(dir.path(), NO_CLICKHOUSE, "");
    let _aggregator = Process::start(&config);
    let printed = error_output(&["serve"], &config);
    assert!(
        printed.contains("is in use by another aggregator"),
        "{printed}"
    );
    let store = dir.path().join("data/store");
    let other = tempfile::tempdir().expect("temporary directory");
    let more = format!("[store]\ndir = {store:?}\n");
    let config = write_settings(other.path(), NO_CLICKHOUSE, &more);
    let printed = error_output(&["serve"], &config);
    assert!(
        printed.contains("is in use by another aggregator") && printed.contains("data/store"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_format_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(dir.path(), NO_CLICKHOUSE, "");
    assert!(Process::start(&config).stop().success());
    for directory in ["data", "data/store"] {
        let file = dir.path().join(directory).join("format.toml");
        let written = std::fs::read_to_string(&file).expect("written at the first start");
        let later = written.replace("format = 1", "format = 2");
        std::fs::write(&file, later).expect("writable");
        let printed = error_output(&["serve"], &config);
        assert!(
            printed.contains(directory) && printed.contains("has format 2"),
            "{printed}"
        );
        std::fs::write(&file, written).expect("writable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_to_alert_on_exist_from_the_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(dir.path(), NO_CLICKHOUSE, "");
    let aggregator = Process::start(&config);
    let (_, text) = page(aggregator.admin, "/metrics").await;
    for series in [
        "build_info{program=\"aggregator\",version=",
        "process_cpu_seconds_total ",
        "process_start_time_seconds ",
        "process_open_fds ",
        "aggregator_refused_total{reason=\"node_mismatch\"} 0",
        "aggregator_refused_total{reason=\"revoked\"} 0",
        "aggregator_refused_total{reason=\"handshake\"} 0",
        "aggregator_quarantined_total{reason=\"malformed\"} 0",
        "aggregator_lane_claims_total{outcome=\"ignored\"} 0",
        "aggregator_certificate_reloads_total{outcome=\"refused\"} 0",
        "aggregator_attributions_total{outcome=\"given_up\"} 0",
        "aggregator_batches_total{verdict=\"overlap\"} 0",
        "aggregator_place_conflicts_total 0",
        "aggregator_files_set_aside_total 0",
        "aggregator_insert_retries_total 0",
        "aggregator_store_up ",
        "aggregator_rows_total{table=\"clicks\"} 0",
        "aggregator_rows_total{table=\"rejections\"} 0",
    ] {
        assert!(
            text.contains(&format!("\n{series}")),
            "no {series} in {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_documented() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(dir.path(), NO_CLICKHOUSE, "");
    let aggregator = Process::start(&config);
    let (_, text) = page(aggregator.admin, "/metrics").await;
    let documented = include_str!("../../docs/metrics.md");
    for line in text.lines().filter_map(|it| it.strip_prefix("# HELP ")) {
        let name = line.split(' ').next().unwrap_or(line);
        let row = format!("| `{name}` |");
        assert!(documented.contains(&row), "{name}: add it to reference.rs");
    }
}

/// Ships everything and waits until it was evaluated.
async fn ship_all(edge: &mut Edge, aggregator: &Process, dir: &Path) {
    edge.ship_all(aggregator.listening, &client(dir)).await;
    aggregator.evaluated().await;
}

fn has_block(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths = files.map(|file| file.path());
    paths.any(|path| path.extension().is_some_and(|it| it == "block"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_counts_waiting_events() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut engine = Engine::start(dir.path());
    let blocks = "[blocks]\nmax_age = \"30ms\"\n";
    let config = write_settings(dir.path(), &engine.settings(), blocks);
    let mut aggregator = Process::start(&config);
    let mut edge = Edge::open(&dir.path().join("spool"), NODE, 1);
    edge.append(1_000);
    ship_all(&mut edge, &aggregator, dir.path()).await;
    assert_eq!(metric(aggregator.admin, LAG).await, Some(0.0));
    // The aggregator's state of the lane is lost, and then ClickHouse does not respond.
    aggregator.kill();
    std::fs::remove_dir_all(dir.path().join("data/spool")).expect("removable");
    aggregator.restart();
    let tables = engine.writer();
    until("claimed by the new spool", async || {
        let claims = "SELECT max(generation) FROM aggregator_generations";
        let newest = tables.query(claims).fetch_one::<u64>().await;
        newest.expect("number") == 2
    })
    .await;
    engine.kill();
    edge.append(5);
    until("received", async || {
        edge.ship(aggregator.listening, client(dir.path())).await;
        metric(aggregator.admin, LAG).await == Some(5.0)
    })
    .await;
    // The next process recovers the lane from a block alone, which begins far beyond its first event.
    until("written", async || {
        has_block(&dir.path().join("data/spool/blocks"))
    })
    .await;
    aggregator.kill_and_restart();
    edge.append(2);
    until("received", async || {
        edge.ship(aggregator.listening, client(dir.path())).await;
        metric(aggregator.admin, LAG).await == Some(7.0)
    })
    .await;
    engine.up();
    ship_all(&mut edge, &aggregator, dir.path()).await;
    until("stored", async || {
        metric(aggregator.admin, LAG).await == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregator_without_postgresql_is_not_ready_for_reports() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(dir.path());
    let mut server = TestServer::start();
    let more = format!("[store]\nurl = \"{}\"\n", server.url());
    let config = write_settings(dir.path(), &engine.settings(), &more);
    let aggregator = Process::start(&config);
    let up = async || metric(aggregator.admin, "aggregator_store_up").await;
    let ready = async || page(aggregator.admin, "/readyz").await;
    until("ready", async || {
        ready().await.0 == 200 && up().await == Some(1.0)
    })
    .await;
    let mut edge = Edge::open(&dir.path().join("spool"), NODE, 1);
    edge.append_each(CYCLE, report);
    ship_all(&mut edge, &aggregator, dir.path()).await;
    // All reports are evaluated: none needs the store any more.
    server.crash();
    until("not ready", async || {
        let (status, why) = ready().await;
        status == 503 && why.contains("reports wait for the store: ")
    })
    .await;
    until("down", async || up().await == Some(0.0)).await;
    server.restart();
    until("ready again", async || {
        ready().await.0 == 200 && up().await == Some(1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_moves_to_postgresql_with_all_state() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(dir.path());
    let config = write_settings(dir.path(), &engine.settings(), "");
    let mut aggregator = Process::start(&config);
    let mut edge = Edge::open(&dir.path().join("spool"), NODE, 1);
    edge.append_each(3 * CYCLE, report);
    ship_all(&mut edge, &aggregator, dir.path()).await;
    let affiliates = page(aggregator.admin, "/affiliates").await;
    assert!(aggregator.stop().success());

    let server = TestServer::start();
    let more = format!("[store]\nurl = \"{}\"\n", server.url());
    let config = write_settings(dir.path(), &engine.settings(), &more);
    for command in ["serve", "check"] {
        let printed = error_output(&[command], &config);
        assert!(
            printed.contains("aggregator store copy"),
            "{command}: {printed}"
        );
    }
    let output = run(&["store", "copy"], &config);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for table in [
        "conversions: 3 rows",
        "affiliates: 3 rows",
        "store_epoch: 1 rows",
    ] {
        assert!(printed.contains(table), "{table}: {printed}");
    }
    assert!(dir.path().join("data/store/store.sqlite.copied").exists());
    let printed = error_output(&["store", "copy"], &config);
    assert!(printed.contains("SQLite holds no store"), "{printed}");

    // The same reports again, and new ones: reports in the store are recognised.
    aggregator.restart();
    assert_eq!(page(aggregator.admin, "/affiliates").await, affiliates);
    let mut twin = Edge::open(&dir.path().join("twin"), NODE, 1);
    twin.append_each(3 * CYCLE, report);
    ship_all(&mut twin, &aggregator, dir.path()).await;
    edge.append_each(CYCLE, report);
    ship_all(&mut edge, &aggregator, dir.path()).await;
    let reader = engine.reader();
    let count = async |table: &str| -> u64 {
        let sql = format!("SELECT count() FROM {table}");
        reader.query(&sql).fetch_one().await.expect("number")
    };
    let (_, of_a_cycle) = OUTCOMES[2];
    assert_eq!(
        count("conversions").await,
        4 * of_a_cycle,
        "no report is counted twice"
    );

    // A store is not copied into another one.
    std::fs::rename(
        dir.path().join("data/store/store.sqlite.copied"),
        dir.path().join("data/store/store.sqlite"),
    )
    .expect("renamed");
    assert!(aggregator.stop().success());
    let printed = error_output(&["store", "copy"], &config);
    assert!(printed.contains("holds a store already"), "{printed}");
}

/// As [`report`], but with a click of today: older clicks are not searched.
fn report_of_today(seq: u64, node: u16, lane: u8) -> Event<'static> {
    static CLICKED: LazyLock<Micros> = LazyLock::new(Micros::now);
    let id = click_id_at(*CLICKED, 1);
    match report(seq, node, lane) {
        Event::Click(visit) => Event::Click(Visit {
            id,
            time: *CLICKED,
            ..visit
        }),
        Event::Conversion(conversion) => Event::Conversion(Conversion {
            click: id,
            ..conversion
        }),
        other => other,
    }
}

/// The seconds since a displayed time.
fn seconds_ago(shown: &serde_json::Value) -> i64 {
    let shown = shown.as_str().expect("text");
    assert!(
        shown.ends_with('Z') && shown.len() == "2026-01-01T00:00:00Z".len(),
        "{shown}"
    );
    let time: jiff::Timestamp = shown.parse().expect("RFC 3339");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_secs()).expect("time of this century") - time.as_second()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_pages_list_and_resend_postbacks() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(dir.path());
    let receiver = Receiver::start(|_, _| 200);
    let postbacks = dir.path().join("postbacks.toml");
    let url = format!("http://{}/pb?status={{status}}", receiver.address);
    let text = format!("[[postback]]\ncampaign = \"campaign-2\"\nurl = \"{url}\"\n");
    write_private(&postbacks, &text);
    let more = format!(
        "[blocks]\nmax_age = \"30ms\"\n[outgoing]\npostbacks = {postbacks:?}\nallowed_networks = [\"127.0.0.0/8\"]\n"
    );
    let config = write_settings(dir.path(), &engine.settings(), &more);
    let aggregator = Process::start(&config);
    let admin = aggregator.admin;
    let mut edge = Edge::open(&dir.path().join("spool"), NODE, 1);
    edge.append_each(CYCLE, report_of_today);
    ship_all(&mut edge, &aggregator, dir.path()).await;
    let list = async |path: &str| -> Vec<serde_json::Value> {
        let (status, text) = page(admin, path).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON list")
    };
    until("received", async || {
        list("/postbacks?state=delivered").await.len() == 2
    })
    .await;

    let affiliates = list("/affiliates").await;
    assert_eq!(affiliates.len(), 1, "{affiliates:?}");
    assert_eq!(affiliates[0]["affiliate"], "21-0-0");
    assert_eq!(affiliates[0]["tier"], 2);
    assert_eq!(affiliates[0]["kyc_status"], "approved");
    assert_eq!(affiliates[0]["earning_limit_cents"], 1_000_000);
    assert_eq!(affiliates[0]["since"], "2025-06-15T15:06:40Z");
    assert_eq!(list("/affiliates?name=21-0-0").await.len(), 1);
    assert_eq!(list("/affiliates?name=unknown").await.len(), 0);

    let delivered = list("/postbacks?state=delivered").await;
    assert!(
        (-5..120).contains(&seconds_ago(&delivered[0]["at"])),
        "{delivered:?}"
    );
    let received = receiver.received().len();
    let id = delivered[0]["postback"].as_str().expect("id");
    let resend = format!("POST /postbacks/resend?postback={id}");
    let from_page = ask(admin, &resend, "Origin: http://localhost\r\n").await;
    assert_eq!(from_page.0, 403, "{from_page:?}");
    for (request, status) in [
        (resend.replace("POST", "GET"), 404),
        (resend.replace(id, "nothing"), 404),
        (resend.replace(id, &id.replace('-', "-f")), 404),
        ("POST /postbacks".to_owned(), 405),
        ("DELETE /postbacks".to_owned(), 405),
        ("GET /postbacks?state=delivred".to_owned(), 400),
        ("GET /postbacks?reciever=a/b".to_owned(), 400),
        ("GET /affiliates?affiliate=ann".to_owned(), 400),
    ] {
        let response = ask(admin, &request, "").await;
        assert_eq!(response.0, status, "{request}: {response:?}");
    }
    assert_eq!(receiver.received().len(), received);
    let response = ask(admin, &resend, "").await;
    assert_eq!(response.0, 200, "{response:?}");
    until("postback received again", async || {
        receiver.received().len() == received + 1
    })
    .await;
    assert_eq!(receiver.received()[received].header("webhook-id"), id);
}
