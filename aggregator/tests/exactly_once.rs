//! Exactly-once inserts with real QUIC, files and ClickHouse: edges repeat, overlap and reconnect; aggregator and
//! ClickHouse are killed. Every event is in its table exactly once.

mod common;

use clickhouse::Client;
use common::edge::{Edge, ShippingEdges, click_id};
use common::engine::Engine;
use common::process::Process;
use common::{ClientConnection, JOURNAL, NODE, client, metric, page, write_settings};
use event_shipping::{AggregatorMessage, BatchSpan, EdgeMessage, Sealer};
use std::time::Duration;

const NODES: [u16; 3] = [1, 2, 3];
const LANES: u8 = 2;
const ROUNDS: u64 = 14;
const EVENTS_PER_ROUND: u64 = 1_000;
const FAULTS: u64 = 12;

/// Node, lane and sequence of all rows in a table.
async fn stored(reader: &Client, table: &str) -> Vec<(u16, u8, u64)> {
    let query = format!("SELECT node, lane, seq FROM {table} ORDER BY node, lane, seq");
    reader.query(&query).fetch_all().await.expect("readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_stored_once_despite_kills() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut engine = Engine::start(directory.path());
    let more = "[blocks]\nmax_rows = 2000\nmax_age = \"30ms\"";
    let config = write_settings(directory.path(), &engine.settings(), more);
    let mut aggregator = Process::start(&config);
    let edges = ShippingEdges::start(
        directory.path(),
        &NODES,
        LANES,
        aggregator.listening,
        ROUNDS,
        |edge| edge.append(EVENTS_PER_ROUND),
    );
    let mut dice = fastrand::Rng::with_seed(99);
    for fault in 0..FAULTS {
        tokio::time::sleep(Duration::from_millis(200 + dice.u64(..400))).await;
        edges.assert_shipping();
        match fault % 4 {
            0 | 2 => aggregator.kill_and_restart(),
            1 => {
                engine.kill();
                tokio::time::sleep(Duration::from_millis(dice.u64(..500))).await;
                engine.up();
            }
            _ => {
                assert!(aggregator.stop().success());
                aggregator.restart();
            }
        }
        edges.redirect(aggregator.listening);
    }
    edges.finish().await;
    let reader = engine.reader();
    let expected = |impressions: bool| -> Vec<(u16, u8, u64)> {
        let lanes = NODES
            .into_iter()
            .flat_map(|node| (0..LANES).map(move |lane| (node, lane)));
        lanes
            .flat_map(|(node, lane)| {
                let sequences = (1..=ROUNDS * EVENTS_PER_ROUND)
                    .filter(|seq| seq.is_multiple_of(4) == impressions);
                sequences
                    .map(move |seq| (node, lane, seq))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    assert!(
        stored(&reader, "clicks").await == expected(false),
        "clicks differ"
    );
    assert!(
        stored(&reader, "impressions").await == expected(true),
        "impressions differ"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_arrives_and_metrics_show_positions() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let config = write_settings(directory.path(), &engine.settings(), "");
    let mut aggregator = Process::start(&config);
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append(4);
    edge.ship_all(aggregator.listening, &client(directory.path()))
        .await;
    let columns = "id, toString(time) != '', link_id, link, offer, campaign, affiliate, \
        18446744073709551615 - visitor, flags, status, toString(ip), country, region, asn, device, \
        os, browser, user_agent, language, host, referrer, source, external_id, toString(cost), \
        sub1, sub2, sub3, sub10, node, lane, seq, journal > 0, \
        abs(dateDiff('second', time, now())) < 60";
    let row = |table: &str, seq: u64| {
        let query =
            format!("SELECT concatWithSeparator('|', {columns}) FROM {table} WHERE seq = {seq}");
        let reader = engine.reader();
        async move {
            reader
                .query(&query)
                .fetch_one::<String>()
                .await
                .expect("one row")
        }
    };
    let id = click_id();
    let rest = "spring|offer-1|campaign-2|affiliate-3|SEQ|FLAGS|302|::ffff:192.0.2.21|NL|NH|64500|\
        phone|Android|Firefox|Mozilla/5.0 (Android 15; Mobile)|en-us|go.example|\
        https://example.com/päge|newsletter|ext|-1.250001|s1||s3||21|0|SEQ|1|1";
    let expected = |seq: &str, flags| {
        format!(
            "{id}|1|7|{}",
            rest.replace("SEQ", seq).replace("FLAGS", flags)
        )
    };
    assert_eq!(row("clicks", 1).await, expected("1", "10"));
    assert_eq!(row("clicks", 2).await, expected("2", "1"));
    assert_eq!(row("impressions", 4).await, expected("4", "1"));

    let admin = aggregator.admin;
    assert_eq!(page(admin, "/readyz").await, (200, "ready\n".to_owned()));
    let value = |name: &'static str| metric(admin, name);
    assert_eq!(
        value("aggregator_rows_total{table=\"clicks\"}").await,
        Some(3.0)
    );
    assert_eq!(
        value("aggregator_rows_total{table=\"impressions\"}").await,
        Some(1.0)
    );
    assert_eq!(value("aggregator_freshness_seconds_count").await, Some(4.0));
    assert_eq!(
        value("aggregator_lane_taken{lane=\"0\",node=\"21\"}").await,
        Some(4.0)
    );
    assert_eq!(
        value("aggregator_lane_lag{lane=\"0\",node=\"21\"}").await,
        Some(0.0)
    );
    assert_eq!(value("aggregator_pending_bytes").await, Some(0.0));
    assert!(aggregator.stop().success());
}

/// A batch with a valid checksum but without events, and a valid batch after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecodable_batch_is_quarantined_and_delays_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let config = write_settings(directory.path(), &engine.settings(), "");
    let aggregator = Process::start(&config);
    let (mut talk, _) =
        ClientConnection::welcomed(aggregator.listening, client(directory.path())).await;
    let mut sealer = Sealer::new().expect("compressor");
    let span = BatchSpan {
        lane: 0,
        journal: JOURNAL,
        format_version: 1,
        after: 0,
        first: 1,
        last: 3,
        events: 1,
    };
    let batch = sealer
        .seal(&span, b"not a single valid frame", 1)
        .expect("seals");
    talk.say(&EdgeMessage::Batch(batch)).await;
    match talk.receive().await {
        Ok(Some(AggregatorMessage::Ack(ack))) => assert_eq!(ack.taken, 3),
        other => panic!("not an ack: {other:?}"),
    }
    let name = "aggregator_quarantined_total{reason=\"frame\"}";
    assert_eq!(metric(aggregator.admin, name).await, Some(1.0));
    let kept: Vec<_> = std::fs::read_dir(directory.path().join("data/quarantine"))
        .expect("quarantine directory")
        .map(|entry| std::fs::read_to_string(entry.expect("directory entry").path()).expect("text"))
        .collect();
    let [line] = kept.as_slice() else {
        panic!("one file: {kept:?}")
    };
    let line: serde_json::Value = serde_json::from_str(line).expect("line of JSON");
    assert_eq!(
        (line["node"].as_u64(), line["seq"].as_u64()),
        (Some(u64::from(NODE)), Some(1))
    );
    assert_eq!(
        line["bytes"],
        data_encoding::HEXLOWER.encode(b"not a single valid frame")
    );

    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append(10);
    edge.ship_all(aggregator.listening, &client(directory.path()))
        .await;
    assert_eq!(stored(&engine.reader(), "impressions").await.len(), 2);
}
