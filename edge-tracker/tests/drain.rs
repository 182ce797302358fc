//! `edge-tracker drain` with real processes and an aggregator that stores events: nothing is left behind, and the
//! command says so only when that is true.
#![allow(missing_docs)]

mod harness;

use harness::aggregator::StoringAggregator;
use harness::drain::{DrainCommand, fails, succeeds};
use harness::postbacks::{self, click};
use harness::{CHROME, Edge, parse};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use tracking_events::Event;

/// An edge that ships to an aggregator of its own.
fn edge() -> (StoringAggregator, Edge) {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Its authority is next to the edge's own directory of certificates.
    let aggregator = StoringAggregator::start(&dir.path().join("data"));
    let edge = Edge::shipping_to(dir, &aggregator.address.to_string());
    (aggregator, edge)
}

fn config(edge: &Edge) -> PathBuf {
    edge.dir.path().join("edge.toml")
}

fn send_clicks(edge: &Edge, count: usize) {
    for _ in 0..count {
        assert_eq!(edge.get("/c/spring").status, 302);
    }
}

/// Sends the beginning of a request.
fn begin(edge: &Edge, begun: &str) -> TcpStream {
    let mut stream = edge.connect();
    stream.write_all(begun.as_bytes()).expect("writable");
    stream
}

/// Sends the remainder of a request and returns the status of the response.
fn finish(mut stream: TcpStream, remainder: &str) -> u16 {
    stream.write_all(remainder.as_bytes()).expect("writable");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("readable");
    parse(&response).status
}

#[test]
fn drained_edge_has_shipped_all_and_accepts_nothing() {
    let (aggregator, mut edge) = edge();
    send_clicks(&edge, 20);
    let begun = format!("GET /c/spring HTTP/1.1\r\nHost: go.example\r\nUser-Agent: {CHROME}\r\n");
    let in_flight = begin(&edge, &begun);
    let mut drain = DrainCommand::start(&config(&edge), &["--delay", "3s"]);

    drain.await_stage("leaving");
    let (status, reasons) = edge.admin_page("/readyz");
    assert!(status == 503 && reasons.contains("draining"), "{reasons}");
    send_clicks(&edge, 5);

    drain.await_stage("closing");
    assert_eq!(finish(in_flight, "\r\n"), 302);
    let last = drain.await_stage("drained");
    assert_eq!((&last["events"], &last["bytes"]), (&0.into(), &0.into()));
    assert_eq!(drain.end().code, Some(0));
    assert_eq!(aggregator.clicks(), 26);

    assert!(TcpStream::connect(&edge.listening).is_err(), "it listens");
    assert_eq!(edge.admin_page("/healthz").0, 200);
    assert_eq!(edge.admin_page("/readyz").0, 503);
    // A second command finds it drained; a restart accepts again.
    succeeds("drain", &config(&edge), &[]);
    assert!(edge.stop());
    let dir = std::mem::replace(
        &mut edge.dir,
        tempfile::tempdir().expect("temporary directory"),
    );
    let restarted = Edge::from_settings(dir);
    send_clicks(&restarted, 1);
    assert_eq!(restarted.admin_page("/readyz").0, 200);
}

#[test]
fn postback_in_flight_is_recorded_before_the_drain_ends() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let aggregator = StoringAggregator::start(dir.path());
    let more = format!(
        "[aggregator]\naddress = \"{}\"\n[tls]\ndir = \"{}\"\ndevelopment = true\n",
        aggregator.address,
        dir.path().join("tls").display()
    );
    let edge = postbacks::edge_of(&["", ""], "", &more);
    let body = format!(
        "click_id={}&transaction_id=t-1&payout=10.50&status=approved&event=sale",
        click(&edge)
    );
    let head = format!(
        "POST /postback/plain?token=plain-secret-of-bytes HTTP/1.1\r\nHost: go.example\r\nConnection: close\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(10);
    let in_flight = begin(&edge, &(head + first));
    let mut drain = DrainCommand::start(&config(&edge), &["--delay", "0s"]);
    drain.await_stage("closing");
    let status = finish(in_flight, rest);
    drain.await_stage("drained");
    assert_eq!(drain.end().code, Some(0));
    let reports = aggregator.events(|event| match event {
        Event::Conversion(_) => Some(200),
        Event::Rejection(rejection) => Some(rejection.status),
        _ => None,
    });
    assert_eq!(reports, [status], "the outcome is in the journal");
}

#[test]
fn unacknowledged_events_fail_the_drain_until_acknowledged() {
    let (aggregator, edge) = edge();
    aggregator.acknowledge(false);
    send_clicks(&edge, 7);
    let options = ["--delay", "0s", "--timeout", "2s"];
    let error = fails("drain", &config(&edge), &options, 3);
    assert!(error.contains("7 events ("), "{error}");
    assert!(error.contains("run the command again"), "{error}");
    // It was stored, but the edge does not know.
    aggregator.acknowledge(true);
    let said = succeeds("drain", &config(&edge), &[]);
    assert!(
        said.contains("drained: the aggregator has acknowledged every event"),
        "{said}"
    );
    assert_eq!(aggregator.clicks(), 7);
}

#[test]
fn unreachable_aggregator_is_named_with_the_events_left() {
    let edge = Edge::start();
    send_clicks(&edge, 3);
    let options = ["--delay", "0s", "--timeout", "8s"];
    let error = fails("drain", &config(&edge), &options, 3);
    assert!(error.contains("3 events ("), "{error}");
    assert!(error.contains("nothing is shipped: "), "{error}");
    assert!(error.contains("edge-tracker adopt"), "{error}");
}

#[test]
fn drain_of_a_stopped_edge_ships_its_journal_once() {
    let (aggregator, edge) = edge();
    aggregator.acknowledge(false);
    send_clicks(&edge, 12);
    let dir = edge.kill9();
    let config = dir.path().join("edge.toml");
    aggregator.acknowledge(true);
    succeeds("drain", &config, &[]);
    assert_eq!(aggregator.clicks(), 12);
    // Without an aggregator there is nothing to ask it.
    drop(aggregator);
    let said = succeeds("drain", &config, &["--timeout", "10s", "--json"]);
    let last: serde_json::Value = serde_json::from_str(said.trim()).expect("one line");
    assert_eq!(last["stage"], "drained");
}

#[test]
fn killed_edge_fails_the_drain_and_can_be_drained_again() {
    let (aggregator, edge) = edge();
    aggregator.acknowledge(false);
    send_clicks(&edge, 9);
    let config = config(&edge);
    let mut drain = DrainCommand::start(&config, &["--delay", "0s"]);
    drain.await_stage("shipping");
    let _dir = edge.kill9();
    let ended = drain.end();
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("Run the command again"),
        "{}",
        ended.stderr
    );
    aggregator.acknowledge(true);
    succeeds("drain", &config, &[]);
    assert_eq!(aggregator.clicks(), 9);
}
