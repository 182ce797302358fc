//! Hostile, broken or too many peers, while ClickHouse is unavailable: each is refused with a counted reason, and the
//! others are served.

mod common;

use common::aggregator::Aggregator;
use common::{ClientConnection, JOURNAL, client, hello, metric, page, until, without_clickhouse};
use event_shipping::{
    AggregatorMessage, Batch, BatchHeader, EdgeMessage, Hello, LaneState, MAX_BATCH_MESSAGE_BYTES,
    MAX_LANES, PROTOCOL_VERSION, RefuseCode,
};

fn introduction() -> Hello {
    match hello(PROTOCOL_VERSION) {
        EdgeMessage::Hello(hello) => hello,
        EdgeMessage::Batch(_) => unreachable!("always a Hello"),
    }
}

fn batch(after: u64, first: u64, last: u64) -> Batch {
    common::batch(after, first, last, &[b'x'; 200])
}

fn altered(alter: impl FnOnce(&mut BatchHeader)) -> EdgeMessage {
    let mut batch = batch(0, 1, 3);
    alter(&mut batch.header);
    EdgeMessage::Batch(batch)
}

#[tokio::test]
async fn edges_are_served_while_clickhouse_is_unavailable() {
    let aggregator = Aggregator::start("").await;
    let admin = aggregator.admin();
    let mut first = aggregator.welcomed().await;
    first.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    until("received", async || {
        metric(admin, "aggregator_lane_received{lane=\"0\",node=\"21\"}").await == Some(3.0)
    })
    .await;
    drop(first);
    // Received events are remembered across connections, and none is acknowledged.
    let config = client(aggregator.directory());
    let (_second, welcome) = ClientConnection::welcomed(aggregator.address(), config).await;
    let expected = LaneState {
        lane: 0,
        journal: JOURNAL,
        received: 3,
        taken: 0,
    };
    assert_eq!(welcome.lanes, [expected]);
    until("first connection closed", async || {
        metric(admin, "aggregator_edges{node=\"21\"}").await == Some(1.0)
    })
    .await;
    let (status, why) = page(admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("ClickHouse"), "{why}");
    assert_eq!(page(admin, "/healthz").await.0, 200);
}

#[tokio::test]
async fn stop_closes_connections_without_waiting_for_clickhouse() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    let (stopped, (code, _)) = tokio::join!(aggregator.stop(), edge.refusal());
    assert_eq!(
        (stopped, RefuseCode::from_number(code)),
        ((), Some(RefuseCode::Stopping))
    );
}

#[tokio::test]
async fn another_protocol_version_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.open().await;
    edge.say(&hello(PROTOCOL_VERSION + 1)).await;
    let message = aggregator.refuses(&mut edge, RefuseCode::Protocol).await;
    assert!(message.contains("only 2"), "{message}");
}

#[tokio::test]
async fn message_above_the_limit_is_refused_unread() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    let length = u32::try_from(MAX_BATCH_MESSAGE_BYTES + 1).expect("fits");
    edge.say_bytes(&length.to_le_bytes()).await;
    aggregator.refuses(&mut edge, RefuseCode::TooLong).await;
}

#[tokio::test]
async fn random_bytes_are_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.open().await;
    edge.say_bytes(&[8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4])
        .await;
    aggregator.refuses(&mut edge, RefuseCode::Malformed).await;
}

#[tokio::test]
async fn batch_before_the_hello_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.open().await;
    edge.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    aggregator.refuses(&mut edge, RefuseCode::Malformed).await;
}

#[tokio::test]
async fn wrong_checksum_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| header.crc ^= 1)).await;
    aggregator.refuses(&mut edge, RefuseCode::Checksum).await;
}

#[tokio::test]
async fn contradictory_header_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| header.raw_bytes = u32::MAX))
        .await;
    aggregator.refuses(&mut edge, RefuseCode::Header).await;
}

#[tokio::test]
async fn gap_is_refused_and_leaves_the_lane_unchanged() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    edge.say(&EdgeMessage::Batch(batch(4, 5, 6))).await;
    aggregator.refuses(&mut edge, RefuseCode::Gap).await;
    let config = client(aggregator.directory());
    let (_edge, welcome) = ClientConnection::welcomed(aggregator.address(), config).await;
    assert_eq!(welcome.lanes[0].received, 3);
}

#[tokio::test]
async fn lane_missing_in_the_hello_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| header.journal += 1)).await;
    aggregator.refuses(&mut edge, RefuseCode::UnknownLane).await;
}

#[tokio::test]
async fn events_of_a_newer_format_stay_with_the_edge() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| header.format_version = 999))
        .await;
    aggregator.refuses(&mut edge, RefuseCode::Format).await;
}

#[tokio::test]
async fn edge_above_the_limit_is_refused() {
    let aggregator = Aggregator::start("[limits]\nmax_edges = 1").await;
    let first = aggregator.welcomed().await;
    let second = ClientConnection::open(aggregator.address(), client(aggregator.directory())).await;
    if let Ok(second) = second {
        second.connection.closed().await;
    }
    let reason = RefuseCode::TooManyEdges.name();
    until("counted", async || aggregator.refused(reason).await == 1.0).await;
    drop(first.connection);
    drop((first.send, first.receive));
    // Its slot is free again.
    until("welcomed", async || {
        let config = client(aggregator.directory());
        let Ok(mut third) = ClientConnection::open(aggregator.address(), config).await else {
            return false;
        };
        third.say(&hello(PROTOCOL_VERSION)).await;
        matches!(
            third.receive().await,
            Ok(Some(event_shipping::AggregatorMessage::Welcome(_)))
        )
    })
    .await;
}

#[tokio::test]
async fn lanes_above_the_limit_are_refused() {
    let aggregator = Aggregator::start("[limits]\nmax_lanes = 1").await;
    let mut first = aggregator.welcomed().await;
    first.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    aggregator.received(3.0).await;
    let mut edge = aggregator.open().await;
    let mut other = introduction();
    other.lanes[0].journal += 1;
    edge.say(&EdgeMessage::Hello(other)).await;
    aggregator
        .refuses(&mut edge, RefuseCode::TooManyLanes)
        .await;
}

#[tokio::test]
async fn foreign_certificate_is_refused() {
    let aggregator = Aggregator::start("").await;
    let foreign = tempfile::tempdir().expect("temporary directory");
    client(foreign.path());
    // It trusts the aggregator, but the aggregator does not trust it.
    std::fs::copy(
        aggregator.directory().join("tls/ca.pem"),
        foreign.path().join("fleet/ca.pem"),
    )
    .expect("copied");
    if let Ok(mut edge) = ClientConnection::open(aggregator.address(), client(foreign.path())).await
    {
        assert!(edge.receive().await.is_err());
    }
    until("counted", async || {
        aggregator.refused("handshake").await == 1.0
    })
    .await;
}

#[tokio::test]
async fn edge_above_the_pending_limit_is_not_read() {
    let aggregator = Aggregator::start("[limits]\npending_bytes = \"1MiB\"").await;
    let admin = aggregator.admin();
    let mut edge = aggregator.welcomed().await;
    let mut random = fastrand::Rng::with_seed(7);
    let noise = std::iter::repeat_with(|| random.u8(..));
    let noise: Vec<u8> = noise.take(600_000).collect();
    let sending = tokio::spawn(async move {
        for first in 1..=40_u64 {
            let batch = common::batch(first - 1, first, first, &noise);
            edge.say(&EdgeMessage::Batch(batch)).await;
        }
    });
    until("full", async || {
        metric(admin, "aggregator_pending_bytes")
            .await
            .is_some_and(|held| held >= 1_048_576.0)
    })
    .await;
    // Two batches reach the limit; the others wait in QUIC's windows.
    assert_eq!(
        metric(admin, "aggregator_batches_total{verdict=\"accepted\"}").await,
        Some(2.0)
    );
    assert!(!sending.is_finished());
    sending.abort();
}

#[tokio::test]
async fn claim_of_another_edge_moves_no_known_lane() {
    let aggregator = Aggregator::start("").await;
    let mut victim = aggregator.welcomed().await;
    victim.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    aggregator.received(3.0).await;
    let mut attacker = aggregator.open().await;
    let mut huge = introduction();
    huge.lanes[0].acknowledged = 1 << 61;
    huge.lanes[0].released = 1 << 61;
    attacker.say(&EdgeMessage::Hello(huge)).await;
    let Ok(Some(AggregatorMessage::Welcome(response))) = attacker.receive().await else {
        panic!("no Welcome")
    };
    assert_eq!(
        (response.lanes[0].received, response.lanes[0].taken),
        (3, 0)
    );
    let name = "aggregator_lane_claims_total{outcome=\"ignored\"}";
    assert_eq!(metric(aggregator.admin(), name).await, Some(1.0));
    // The claim closed the victim's connection. Its next batch is new, not a repetition.
    let mut victim = aggregator.welcomed().await;
    victim.say(&EdgeMessage::Batch(batch(3, 4, 6))).await;
    aggregator.received(6.0).await;
    let config = client(aggregator.directory());
    let (_, welcome) = ClientConnection::welcomed(aggregator.address(), config).await;
    assert_eq!((welcome.lanes[0].received, welcome.lanes[0].taken), (6, 0));
}

#[tokio::test]
async fn welcome_names_only_the_lanes_of_the_hello() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    aggregator.received(3.0).await;
    let mut guess = introduction();
    guess.lanes[0].journal = JOURNAL + 1;
    let mut other = aggregator.open().await;
    other.say(&EdgeMessage::Hello(guess)).await;
    let Ok(Some(AggregatorMessage::Welcome(response))) = other.receive().await else {
        panic!("no Welcome")
    };
    let expected = LaneState {
        lane: 0,
        journal: JOURNAL + 1,
        received: 0,
        taken: 0,
    };
    assert_eq!(response.lanes, [expected]);
}

#[tokio::test]
async fn sequence_beyond_every_journal_is_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| header.last = 1 << 62)).await;
    aggregator.refuses(&mut edge, RefuseCode::Header).await;
}

#[tokio::test]
async fn more_events_than_bytes_can_hold_are_refused() {
    let aggregator = Aggregator::start("").await;
    let mut edge = aggregator.welcomed().await;
    edge.say(&altered(|header| {
        (header.last, header.events) = (1_000_000, 1_000_000)
    }))
    .await;
    let message = aggregator.refuses(&mut edge, RefuseCode::Header).await;
    assert!(
        message.contains("1000000 events don't fit into 200 bytes"),
        "{message}"
    );
}

#[tokio::test]
async fn invented_journals_do_not_lock_out_a_new_edge() {
    let aggregator = Aggregator::start("[limits]\nmax_lanes = 2000").await;
    for round in 1..=4 {
        let mut attacker = aggregator.open().await;
        let mut many = introduction();
        many.lanes = vec![many.lanes[0]; MAX_LANES];
        for (number, lane) in many.lanes.iter_mut().enumerate() {
            lane.journal = round * 1_000_000 + number as u64;
        }
        attacker.say(&EdgeMessage::Hello(many)).await;
        assert!(matches!(
            attacker.receive().await,
            Ok(Some(AggregatorMessage::Welcome(_)))
        ));
    }
    let mut edge = aggregator.welcomed().await;
    edge.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    aggregator.received(3.0).await;
}

#[tokio::test]
async fn data_directory_in_use_is_refused_by_name() {
    let aggregator = Aggregator::start("").await;
    let settings = without_clickhouse(aggregator.directory(), "");
    let error = aggregator::start(settings).await.expect_err("refused");
    let path = aggregator.directory().join("data");
    assert!(
        error.to_string().contains(&*path.to_string_lossy()),
        "{error}"
    );
}

#[tokio::test]
async fn edge_holding_nothing_is_read_while_another_fills_the_limit() {
    let aggregator = Aggregator::start("[limits]\npending_bytes = \"1MiB\"").await;
    let admin = aggregator.admin();
    let mut flooding = aggregator.welcomed().await;
    let sending = tokio::spawn(async move {
        // Bytes that compress by thousands are charged as if they were events.
        for first in 1..=40_u64 {
            let batch = common::batch(first - 1, first, first, &[0; 4 << 20]);
            flooding.say(&EdgeMessage::Batch(batch)).await;
        }
        flooding
    });
    until("full", async || {
        let held = metric(admin, "aggregator_pending_bytes").await;
        held.is_some_and(|held| held >= 1_048_576.0)
    })
    .await;
    let mut small = aggregator.open().await;
    let mut hello = introduction();
    hello.node += 1;
    small.say(&EdgeMessage::Hello(hello)).await;
    assert!(matches!(
        small.receive().await,
        Ok(Some(AggregatorMessage::Welcome(_)))
    ));
    small.say(&EdgeMessage::Batch(batch(0, 1, 3))).await;
    let name = "aggregator_lane_received{lane=\"0\",node=\"22\"}";
    until("received", async || metric(admin, name).await == Some(3.0)).await;
    let accepted = metric(admin, "aggregator_batches_total{verdict=\"accepted\"}").await;
    assert_eq!(accepted, Some(5.0), "four batches of the flooding edge");
    sending.abort();
}
