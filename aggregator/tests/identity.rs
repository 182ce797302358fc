//! Certificates of edges: each is valid for its nodes only, each journal has one live connection, and certificates are
//! replaced and revoked while the aggregator runs.

mod common;

use common::aggregator::Aggregator;
use common::{ClientConnection, JOURNAL, NODE, client_of, hello, hello_of, identity_of, until};
use event_shipping::tls::{Authority, CERTIFICATE_VALIDITY_DAYS, Subject};
use event_shipping::{AggregatorMessage, PROTOCOL_VERSION, RefuseCode};
use quinn::ClientConfig;
use std::fs;
use std::path::Path;

const OTHER_NODE: u16 = 22;
const CLASHES: &str = "aggregator_clashes_total{node=\"21\"}";
const EDGES: &str = "aggregator_edges{node=\"21\"}";
const LOADED: &str = "aggregator_certificate_reloads_total{outcome=\"loaded\"}";
const REFUSED: &str = "aggregator_certificate_reloads_total{outcome=\"refused\"}";

/// The configuration of the edge with this node number.
fn edge(aggregator: &Aggregator, node: u16) -> ClientConfig {
    client_of(aggregator.directory(), &format!("edge-{node}"), &[node])
}

async fn welcomed(aggregator: &Aggregator, node: u16) -> ClientConnection {
    let config = edge(aggregator, node);
    let (talk, _) =
        ClientConnection::welcomed_as(aggregator.address(), config, node, JOURNAL).await;
    talk
}

/// The response to a `Hello` of node 21 under `config`.
async fn refusal(aggregator: &Aggregator, config: ClientConfig) -> (Option<RefuseCode>, String) {
    let opened = ClientConnection::open(aggregator.address(), config).await;
    let mut talk = opened.expect("trusted certificate");
    talk.say(&hello(PROTOCOL_VERSION)).await;
    let (code, message) = talk.refusal().await;
    (RefuseCode::from_number(code), message)
}

#[tokio::test]
async fn hello_for_another_node_is_refused() {
    let aggregator = Aggregator::start("").await;
    let _victim = welcomed(&aggregator, NODE).await;
    // The claim that the victim's journal was released would make its clicks vanish.
    let mut thief = ClientConnection::open(aggregator.address(), edge(&aggregator, OTHER_NODE))
        .await
        .expect("trusted certificate");
    let event_shipping::EdgeMessage::Hello(mut claim) = hello(PROTOCOL_VERSION) else {
        unreachable!("always a Hello")
    };
    claim.lanes[0].acknowledged = 1 << 40;
    claim.lanes[0].released = 1 << 40;
    thief.say(&event_shipping::EdgeMessage::Hello(claim)).await;
    let (code, message) = thief.refusal().await;
    let code = RefuseCode::from_number(code);
    assert_eq!(code, Some(RefuseCode::NodeMismatch), "{message}");
    assert!(message.contains("--node 21"), "{message}");
    until("counted", async || {
        aggregator.refused("node_mismatch").await == 1.0
    })
    .await;
    // The victim's connection is live, and its lane unchanged.
    assert_eq!(aggregator.metric(EDGES).await, Some(1.0));
    let lane = "aggregator_lane_received{lane=\"0\",node=\"21\"}";
    assert_eq!(aggregator.metric(lane).await, Some(0.0));
}

#[tokio::test]
async fn certificate_without_a_node_is_refused() {
    let aggregator = Aggregator::start("").await;
    let config = client_of(aggregator.directory(), "nameless", &[]);
    let (code, message) = refusal(&aggregator, config).await;
    assert_eq!(code, Some(RefuseCode::NodeMismatch), "{message}");
    assert!(message.contains("names no node"), "{message}");
}

#[tokio::test]
async fn newer_connection_supersedes_the_older() {
    let aggregator = Aggregator::start("").await;
    let mut older = welcomed(&aggregator, NODE).await;
    // Another journal of the node, and the same journal number of another node, supersede nothing.
    let config = edge(&aggregator, NODE);
    let other = JOURNAL + 1;
    let other_journal =
        ClientConnection::welcomed_as(aggregator.address(), config, NODE, other).await;
    let mut other_node = welcomed(&aggregator, OTHER_NODE).await;
    aggregator.reaches(EDGES, 2.0).await;
    // It would count as a clash of its own after a while.
    drop(other_journal);
    aggregator.reaches(EDGES, 1.0).await;
    let _newer = welcomed(&aggregator, NODE).await;
    let (code, message) = older.refusal().await;
    let code = RefuseCode::from_number(code);
    assert_eq!(code, Some(RefuseCode::Superseded), "{message}");
    // The older connection was live, so two processes have the journal.
    aggregator.reaches(CLASHES, 1.0).await;
    assert_eq!(aggregator.refused("superseded").await, 1.0);
    aggregator.reaches(EDGES, 1.0).await;
    let silent = std::time::Duration::from_millis(200);
    let received = tokio::time::timeout(silent, other_node.receive()).await;
    assert!(received.is_err(), "{received:?}");
}

#[tokio::test]
async fn two_live_edges_of_one_node_are_counted() {
    let aggregator = Aggregator::start("").await;
    let _edge = welcomed(&aggregator, NODE).await;
    // Another directory with the same number in its settings, and so another journal.
    let config = edge(&aggregator, NODE);
    let other = JOURNAL + 1;
    let _same_number =
        ClientConnection::welcomed_as(aggregator.address(), config, NODE, other).await;
    assert_eq!(aggregator.metric(CLASHES).await, Some(0.0));
    aggregator.reaches(CLASHES, 1.0).await;
}

#[test]
fn reconnect_after_a_lost_connection_is_no_clash() {
    let here = tokio::runtime::Runtime::new().expect("runtime");
    let lost = tokio::runtime::Runtime::new().expect("runtime");
    let aggregator = here.block_on(Aggregator::start(""));
    let config = edge(&aggregator, NODE);
    let address = aggregator.address();
    let older = lost.block_on(ClientConnection::welcomed(address, config));
    // The socket vanishes without a close, as after `kill -9`.
    lost.shutdown_timeout(std::time::Duration::from_secs(5));
    here.block_on(async {
        let _newer = welcomed(&aggregator, NODE).await;
        until("superseded", async || {
            aggregator.refused("superseded").await == 1.0
        })
        .await;
        aggregator.reaches(EDGES, 1.0).await;
        assert_eq!(aggregator.metric(CLASHES).await, Some(0.0));
    });
    drop(older);
}

#[tokio::test]
async fn revoked_certificate_loses_its_connection_at_once() {
    let aggregator = Aggregator::start("").await;
    let mut stolen = welcomed(&aggregator, NODE).await;
    let mut other = welcomed(&aggregator, OTHER_NODE).await;
    let identity = identity_of(aggregator.directory(), "edge-21", &[NODE]);
    let fingerprint = identity.certificate().fingerprint();
    fs::write(
        aggregator.tls_file("revoked.txt"),
        format!("{fingerprint}\n"),
    )
    .expect("written");
    let (code, message) = stolen.refusal().await;
    assert_eq!(
        RefuseCode::from_number(code),
        Some(RefuseCode::Revoked),
        "{message}"
    );
    // It is not admitted again, and the other edge stays connected.
    let (code, message) = refusal(&aggregator, edge(&aggregator, NODE)).await;
    assert_eq!(code, Some(RefuseCode::Revoked), "{message}");
    let silent = std::time::Duration::from_millis(200);
    let received = tokio::time::timeout(silent, other.receive()).await;
    assert!(received.is_err(), "{received:?}");
    // An unreadable list changes nothing.
    fs::write(aggregator.tls_file("revoked.txt"), "everyone\n").expect("written");
    aggregator.reaches(REFUSED, 1.0).await;
    let (code, _) = refusal(&aggregator, edge(&aggregator, NODE)).await;
    assert_eq!(code, Some(RefuseCode::Revoked));
}

fn append(path: &Path, other: &Path) {
    let both = [path, other].map(|path| fs::read_to_string(path).expect("readable"));
    fs::write(path, both.concat()).expect("written");
}

#[tokio::test]
async fn authorities_and_certificates_are_replaced_while_running() {
    let aggregator = Aggregator::start("").await;
    let mut old_edge = welcomed(&aggregator, NODE).await;
    let expiry = "aggregator_certificate_expiry_timestamp_seconds";
    let first_expiry = aggregator.metric(expiry).await.expect("listed");
    let edge_expiry = "aggregator_edge_certificate_expiry_timestamp_seconds{node=\"21\"}";
    assert!(aggregator.metric(edge_expiry).await.is_some());

    // An invalid file changes nothing.
    let authority_file = aggregator.tls_file("ca.pem");
    let authority_pem = fs::read(&authority_file).expect("readable");
    fs::write(&authority_file, "no certificate").expect("written");
    aggregator.reaches(REFUSED, 1.0).await;
    let _other_edge = welcomed(&aggregator, OTHER_NODE).await;
    fs::write(&authority_file, authority_pem).expect("written");
    aggregator.reaches(LOADED, 1.0).await;

    // A new authority is trusted in addition to the old one.
    let new = aggregator.directory().join("new");
    Authority::create(&new.join("authority"), 30).expect("directory created");
    let authority = Authority::open(&new.join("authority")).expect("directory created");
    append(&authority_file, &new.join("authority/ca.pem"));
    aggregator.reaches(LOADED, 2.0).await;
    // The aggregator's own certificate is now from the new authority.
    let days = CERTIFICATE_VALIDITY_DAYS / 2;
    let issued = new.join("aggregator");
    authority
        .issue(&Subject::Aggregator, days, &issued)
        .expect("issued");
    for name in ["aggregator.pem", "aggregator.key"] {
        fs::rename(issued.join(name), aggregator.tls_file(name)).expect("renamed");
    }
    until("the new certificate is in use", async || {
        aggregator
            .metric(expiry)
            .await
            .is_some_and(|at| at < first_expiry)
    })
    .await;
    let new_edge = client_of(&new, "edge-23", &[23]);
    let (mut new_edge, _) =
        ClientConnection::welcomed_as(aggregator.address(), new_edge, 23, JOURNAL).await;

    // When the old authority is no longer trusted, its edge is disconnected, and the new one stays.
    fs::copy(new.join("authority/ca.pem"), &authority_file).expect("copied");
    let (code, message) = old_edge.refusal().await;
    assert_eq!(
        RefuseCode::from_number(code),
        Some(RefuseCode::Revoked),
        "{message}"
    );
    let silent = std::time::Duration::from_millis(200);
    let received = tokio::time::timeout(silent, new_edge.receive()).await;
    assert!(received.is_err(), "{received:?}");
}

#[tokio::test]
async fn one_certificate_takes_few_of_the_slots() {
    let aggregator = Aggregator::start("").await;
    let config = edge(&aggregator, NODE);
    let mut held = Vec::new();
    for journal in 0..16 {
        let config = config.clone();
        held.push(ClientConnection::welcomed_as(aggregator.address(), config, NODE, journal).await);
    }
    if let Ok(talk) = ClientConnection::open(aggregator.address(), config).await {
        talk.connection.closed().await;
    }
    until("counted", async || {
        aggregator.refused("too_many_edges").await == 1.0
    })
    .await;
    let mut other = ClientConnection::open(aggregator.address(), edge(&aggregator, OTHER_NODE))
        .await
        .expect("connected");
    other
        .say(&hello_of(PROTOCOL_VERSION, OTHER_NODE, JOURNAL))
        .await;
    assert!(matches!(
        other.receive().await,
        Ok(Some(AggregatorMessage::Welcome(_)))
    ));
}
