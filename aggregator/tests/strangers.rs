//! Handshakes of strangers: however many there are, an edge connects and ships.

mod common;

use common::aggregator::Aggregator;
use common::{ClientConnection, client, until};
use event_shipping::EdgeMessage;
use event_shipping::tls::SERVER_NAME;
use quinn::{ClientConfig, Endpoint};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// So few slots that the test fails if strangers use them.
const LIMITS: &str = "[limits]\nmax_edges = 2";
const RECEIVED: &str = "aggregator_lane_received{lane=\"0\",node=\"21\"}";
const STRANGERS: usize = 2_000;
const STALLED: usize = 400;

/// Connects as node 21, retrying as an edge does, and ships one batch.
async fn ship_one_batch(aggregator: &Aggregator) -> ClientConnection {
    let config = client(aggregator.directory());
    let opening = async {
        loop {
            let attempt = ClientConnection::open(aggregator.address(), config.clone());
            match tokio::time::timeout(Duration::from_secs(5), attempt).await {
                Ok(Ok(talk)) => return talk,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let opened = tokio::time::timeout(Duration::from_secs(20), opening).await;
    let mut talk = opened.expect("connected despite strangers");
    talk.say(&common::hello(event_shipping::PROTOCOL_VERSION))
        .await;
    let received = tokio::time::timeout(Duration::from_secs(10), talk.receive()).await;
    received.expect("welcome in time").expect("welcome");
    // The length of three events; these bytes are never decoded.
    let batch = common::batch(0, 1, 3, &[0; 600]);
    talk.say(&EdgeMessage::Batch(batch)).await;
    aggregator.reaches(RECEIVED, 3.0).await;
    talk
}

/// An endpoint on another address than the edge's.
fn stranger_endpoint(config: &ClientConfig) -> Endpoint {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    let mut endpoint = Endpoint::client(address).expect("socket");
    endpoint.set_default_client_config(config.clone());
    endpoint
}

/// Certificates of another authority, which trust the aggregator's.
fn foreign_config(aggregator: &Aggregator, directory: &std::path::Path) -> ClientConfig {
    client(directory);
    let authority = directory.join("fleet/ca.pem");
    std::fs::copy(aggregator.tls_file("ca.pem"), authority).expect("copied");
    client(directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_strangers_do_not_keep_an_edge_out() {
    let aggregator = Aggregator::start(LIMITS).await;
    let foreign = tempfile::tempdir().expect("temporary directory");
    let config = foreign_config(&aggregator, foreign.path());
    let address = aggregator.address();
    let mut strangers = JoinSet::new();
    for _ in 0..8 {
        let endpoint = stranger_endpoint(&config);
        strangers.spawn(async move {
            let mut attempts = JoinSet::new();
            for _ in 0..STRANGERS / 8 {
                let connecting = endpoint.connect(address, SERVER_NAME).expect("valid");
                attempts.spawn(async move {
                    if let Ok(connection) = connecting.await {
                        connection.closed().await;
                    }
                });
            }
            attempts.join_all().await;
        });
    }
    let edge = ship_one_batch(&aggregator).await;
    assert!(
        !strangers.is_empty() && edge.connection.close_reason().is_none(),
        "strangers are still connecting, and the edge stays connected"
    );
    strangers.abort_all();
    // No stranger used a slot of edges.
    assert_eq!(aggregator.refused("too_many_edges").await, 0.0);
}

/// The first packets of `count` handshakes.
async fn first_packets(config: &ClientConfig, count: usize) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("socket");
    let address = socket.local_addr().expect("bound");
    let endpoint = stranger_endpoint(config);
    // A handshake that is dropped before it has sent anything sends only a close.
    let mut handshakes = Vec::new();
    let mut packets = BTreeMap::new();
    let mut packet = vec![0; 2_048];
    while packets.len() < count {
        handshakes.push(endpoint.connect(address, SERVER_NAME).expect("valid"));
        while packets.len() < handshakes.len() {
            let length = socket.recv(&mut packet).await.expect("packet");
            // Byte 5 holds the length of the destination's connection id.
            let id = packet[6..6 + usize::from(packet[5])].to_vec();
            packets
                .entry(id)
                .or_insert_with(|| packet[..length].to_vec());
        }
    }
    packets.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_do_not_keep_an_edge_out() {
    let aggregator = Aggregator::start(LIMITS).await;
    let foreign = tempfile::tempdir().expect("temporary directory");
    let config = foreign_config(&aggregator, foreign.path());
    // For the aggregator, these packets look like those of forged addresses: its responses are ignored.
    let mut strangers = Vec::new();
    for packet in first_packets(&config, STALLED).await {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await;
        strangers.push((socket.expect("socket"), packet));
    }
    let mut next = strangers.iter().cycle();
    until("addresses must be proven", async || {
        // The kernel drops packets that a busy receiver's buffer can't hold: a few are sent at a time, repeatedly.
        for (socket, packet) in next.by_ref().take(STALLED / 8) {
            let sent = socket.send_to(packet, aggregator.address()).await;
            sent.expect("sent");
        }
        let retries = aggregator.metric("aggregator_handshake_retries_total");
        retries.await.is_some_and(|retries| retries >= 1.0)
    })
    .await;
    let begun = std::time::Instant::now();
    let _edge = ship_one_batch(&aggregator).await;
    let elapsed = begun.elapsed();
    assert!(
        elapsed < Duration::from_secs(4),
        "the stalled handshakes have not timed out yet: {elapsed:?}"
    );
}
