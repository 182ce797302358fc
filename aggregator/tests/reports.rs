//! Conversions, identity checks and rejections from an edge's journal to ClickHouse: each is evaluated once and
//! inserted exactly once, even if processes are killed.

mod common;

use clickhouse::Client;
use common::edge::{Edge, ShippingEdges, click_id};
use common::engine::Engine;
use common::process::Process;
use common::reports::{CYCLE, OUTCOMES, report};
use common::{NODE, client, metric, page, until, write_settings};
use sql_store::test_server::TestServer;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use std::path::Path;
use std::time::{Duration, Instant};

const NODES: [u16; 2] = [1, 2];
const LANES: u8 = 2;
const ROUNDS: u64 = 30;
/// The number of cycles in each round.
const CYCLES: u64 = 6;
const FAULTS: u64 = 10;
/// The path of the store's file in a test's directory.
const STORE_FILE: &str = "data/store/store.sqlite";

async fn texts(reader: &Client, sql: &str) -> Vec<String> {
    reader.query(sql).fetch_all().await.expect(sql)
}

async fn number(reader: &Client, sql: &str) -> u64 {
    reader.query(sql).fetch_one().await.expect(sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_evaluated_and_stored_once_despite_kills() {
    reports_through_faults(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_postgresql_evaluates_and_stores_each_report_once() {
    reports_through_faults(Some(TestServer::start())).await;
}

async fn reports_through_faults(mut postgres: Option<TestServer>) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut engine = Engine::start(directory.path());
    let store = postgres.as_ref().map_or_else(String::new, |server| {
        format!("[store]\nurl = \"{}\"\n", server.url())
    });
    let more = format!("{store}[blocks]\nmax_rows = 100\nmax_age = \"30ms\"");
    let config = write_settings(directory.path(), &engine.settings(), &more);
    let mut aggregator = Process::start(&config);
    let edges = ShippingEdges::start(
        directory.path(),
        &NODES,
        LANES,
        aggregator.listening,
        ROUNDS,
        |edge| edge.append_each(CYCLES * CYCLE, report),
    );
    let mut dice = fastrand::Rng::with_seed(7);
    for fault in 0..FAULTS {
        tokio::time::sleep(Duration::from_millis(50 + dice.u64(..250))).await;
        edges.assert_shipping();
        if let (1, Some(postgres)) = (fault % 4, &mut postgres) {
            postgres.crash_and_restart();
        } else if fault % 4 == 3 {
            engine.kill();
            tokio::time::sleep(Duration::from_millis(dice.u64(..300))).await;
            engine.up();
        } else {
            aggregator.kill_and_restart();
        }
        edges.redirect(aggregator.listening);
    }
    edges.finish().await;
    aggregator.evaluated().await;
    let reader = engine.reader();
    let cycles = NODES.len() as u64 * u64::from(LANES) * ROUNDS * CYCLES;
    for (table, of_a_cycle) in OUTCOMES {
        let rows = number(&reader, &format!("SELECT count() FROM {table}")).await;
        let places = format!("SELECT uniqExact(node, lane, journal, seq) FROM {table}");
        let places = number(&reader, &places).await;
        assert_eq!(
            (rows, places),
            (cycles * of_a_cycle, cycles * of_a_cycle),
            "{table}"
        );
    }
    // Each conversion has the same outcome, regardless of the blocks of its reports.
    let ways = "SELECT concatWithSeparator('|', toString(way), toString(count())) FROM \
        (SELECT arraySort(groupArray((revision, status))) AS way FROM conversions GROUP BY transaction) \
        GROUP BY way";
    let way = format!("[(1,'pending'),(2,'approved')]|{cycles}");
    assert_eq!(texts(&reader, ways).await, [way]);
    let outcomes = "SELECT concatWithSeparator('|', outcome, toString(count())) FROM kyc_events \
                    GROUP BY outcome ORDER BY outcome";
    let outcomes = texts(&reader, outcomes).await;
    let each = |outcome| format!("{outcome}|{cycles}");
    assert_eq!(outcomes, ["applied", "late", "repeat"].map(each));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_report_arrives() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let config = write_settings(directory.path(), &engine.settings(), "");
    let aggregator = Process::start(&config);
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append_each(CYCLE, report);
    edge.ship_all(aggregator.listening, &client(directory.path()))
        .await;
    aggregator.evaluated().await;
    let reader = engine.reader();
    let row = async |columns: &str, table: &str| {
        let place = "node, lane, seq, journal > 0, abs(dateDiff('second', time, now())) < 60";
        let sql = format!(
            "SELECT concatWithSeparator('|', {columns}, {place}) FROM {table} ORDER BY seq"
        );
        texts(&reader, &sql).await
    };
    let sale = "advertiser, click_id, kind, kind_name, transaction, revision, status, payout_minor, \
                currency, toString(payout), dialect, toString(ip), link_id, \
                toUnixTimestamp64Milli(click_time), click_node";
    let click = click_id();
    let sold = |revision: u32, status: &str, seq: u64| {
        format!(
            "shop|{click}|sale|order|21-0-0|{revision}|{status}|1999|EUR|19.99|generic|\
             ::ffff:192.0.2.9|7|1750000000123|3|21|0|{seq}|1|1"
        )
    };
    assert_eq!(
        row(sale, "conversions").await,
        [sold(1, "pending", 3), sold(2, "approved", 5)]
    );
    assert_eq!(
        row(sale, "conversion_repeats").await,
        [sold(1, "pending", 4)]
    );
    let check =
        "provider, delivery, affiliate, status, tier, toUnixTimestamp64Micro(happened), outcome";
    let checked = [
        "verifymy|21-0-0-one|21-0-0|approved|2|1750000000000020|applied|21|0|7|1|1",
        "verifymy|21-0-0-two|21-0-0|pending|2|1750000000000010|late|21|0|8|1|1",
        "verifymy|21-0-0-one|21-0-0|approved|2|1750000000000020|repeat|21|0|9|1|1",
    ];
    assert_eq!(row(check, "kyc_events").await, checked);
    let refusal = "source, party, reason, reason_name, detail, request, status, toString(ip)";
    let refused = [
        format!(
            "store|shop|150|bad_transition|approved can't become pending (click {click}, sale \
             \"21-0-0\")||0|::ffff:192.0.2.9|21|0|6|1|1"
        ),
        "postback|shop|101|forged_click_id|21-0-0|GET /postback?click_id=…|403|::ffff:192.0.2.9|\
         21|0|10|1|1"
            .to_owned(),
    ];
    assert_eq!(row(refusal, "rejections").await, refused);
    let joined = "SELECT concatWithSeparator('|', campaign, affiliate, status, revision) \
                  FROM conversions_with_clicks";
    assert_eq!(
        texts(&reader, joined).await,
        ["campaign-2|affiliate-3|approved|2"]
    );
}

/// The number of reports that the store has evaluated, read from another process.
async fn evaluated_reports(directory: &Path) -> i64 {
    let file = SqliteConnectOptions::new().filename(directory.join(STORE_FILE));
    let mut connection = file.connect().await.expect("the store's file");
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM applied_events");
    count.fetch_one(&mut connection).await.expect("number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_between_store_and_clickhouse_changes_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut engine = Engine::start(directory.path());
    let config = write_settings(directory.path(), &engine.settings(), "");
    let mut aggregator = Process::start(&config);
    let quic = client(directory.path());
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append_each(CYCLE, report);
    edge.ship_all(aggregator.listening, &quic).await;
    aggregator.evaluated().await;
    let of_a_cycle = evaluated_reports(directory.path()).await;
    for cycles in 2..=4 {
        // The store has evaluated the block, ClickHouse is unavailable, and then the aggregator is killed.
        engine.kill();
        edge.append_each(CYCLE, report);
        until("evaluated", async || {
            edge.ship(aggregator.listening, quic.clone()).await;
            evaluated_reports(directory.path()).await > (cycles - 1) * of_a_cycle
        })
        .await;
        aggregator.kill_and_restart();
        engine.up();
        edge.ship_all(aggregator.listening, &quic).await;
        aggregator.evaluated().await;
        assert_eq!(
            evaluated_reports(directory.path()).await,
            cycles * of_a_cycle
        );
        for (table, rows) in OUTCOMES {
            let found = number(&engine.reader(), &format!("SELECT count() FROM {table}")).await;
            assert_eq!(found, cycles as u64 * rows, "{table}");
        }
    }
}

/// The time until ClickHouse has this many new visits of an edge.
async fn ship_visits(
    edge: &mut Edge,
    visits: u64,
    aggregator: &Process,
    directory: &Path,
) -> Duration {
    edge.append(visits);
    let begun = Instant::now();
    edge.ship_all(aggregator.listening, &client(directory))
        .await;
    begun.elapsed()
}

/// One report waits for the store, which can't be opened; 10,000 visits pass it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_store_delays_reports_but_no_clicks() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let in_the_way = directory.path().join(STORE_FILE);
    std::fs::create_dir_all(&in_the_way).expect("directory created");
    let config = write_settings(directory.path(), &engine.settings(), "");
    let mut aggregator = Process::start(&config);
    let mut visits = Edge::open(&directory.path().join("spool-1"), 1, 1);
    let idle = ship_visits(&mut visits, 10_000, &aggregator, directory.path()).await;

    let mut reports = Edge::open(&directory.path().join("spool-2"), 2, 1);
    reports.append_each(CYCLE, report);
    let received = "aggregator_lane_received{lane=\"0\",node=\"2\"}";
    until("reports received", async || {
        reports
            .ship(aggregator.listening, client(directory.path()))
            .await;
        metric(aggregator.admin, received).await == Some(10.0)
    })
    .await;
    let delayed = ship_visits(&mut visits, 10_000, &aggregator, directory.path()).await;
    assert!(
        delayed < idle * 3 + Duration::from_secs(3),
        "{delayed:?} with a report waiting, {idle:?} without"
    );
    let reader = engine.reader();
    let stored = "SELECT count() FROM clicks WHERE node = 1";
    assert_eq!(number(&reader, stored).await, 15_000);
    reports
        .ship_all(aggregator.listening, &client(directory.path()))
        .await;
    let (status, why) = page(aggregator.admin, "/readyz").await;
    assert!(status == 503 && why.contains("store: "), "{status} {why}");
    let pending = metric(aggregator.admin, "aggregator_pending_reports").await;
    assert_eq!(pending, Some(7.0));
    let age = metric(
        aggregator.admin,
        "aggregator_pending_reports_oldest_seconds",
    )
    .await;
    assert!(age.is_some_and(|age| age > 0.0), "{age:?}");

    // Waiting reports survive the process, and are evaluated once the store is available.
    aggregator.kill_and_restart();
    std::fs::remove_dir(&in_the_way).expect("removed");
    until("reports stored", async || {
        number(&reader, "SELECT count() FROM kyc_events").await == 3
            && metric(aggregator.admin, "aggregator_pending_reports").await == Some(0.0)
    })
    .await;
    for (table, of_a_cycle) in &OUTCOMES[2..] {
        let rows = number(&reader, &format!("SELECT count() FROM {table}")).await;
        assert_eq!(rows, *of_a_cycle, "{table}");
    }
    until("ready", async || {
        page(aggregator.admin, "/readyz").await.0 == 200
    })
    .await;
}
