//! Certificates of an edge are replaced while it runs: it reconnects with the new ones and sends unacknowledged events
//! again. Files that can't be used change nothing.

mod harness;

use event_shipping::tls::{self, Authority, Certificate, Fingerprint, Subject};
use event_shipping::{
    Ack, AggregatorMessage, EdgeMessage, LaneState, MAX_BATCH_MESSAGE_BYTES, Welcome, read_message,
    write_message,
};
use harness::{Edge, until};
use quinn::{Connection, Endpoint};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

const NODE: u16 = 7;
const CLICKS: u64 = 20;
const RELOADS: &str = "edge_reloads_total";

/// The certificate and events of one connection.
struct ObservedConnection {
    certificate: Fingerprint,
    events: u64,
}

/// Welcomes every edge and remembers nothing of earlier connections. It acknowledges batches from the
/// second connection on.
struct FakeAggregator {
    address: SocketAddr,
    observed: Arc<Mutex<Vec<ObservedConnection>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeAggregator {
    /// With a certificate of the authority next to the edge's directory in `data`.
    fn start(data: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let identity = tls::load_or_create(&data.join("aggregator"), &Subject::Aggregator)
            .expect("certificates");
        let listening = async { identity.listen(([127, 0, 0, 1], 0).into()) };
        let endpoint = runtime.block_on(listening).expect("socket");
        let address = endpoint.local_addr().expect("bound");
        let observed = Arc::default();
        runtime.spawn(serve(endpoint, Arc::clone(&observed)));
        Self {
            address,
            observed,
            _runtime: runtime,
        }
    }

    fn observed(&self) -> MutexGuard<'_, Vec<ObservedConnection>> {
        self.observed.lock().expect("unpoisoned")
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&[ObservedConnection]) -> bool) {
        until(|| what.to_owned(), || condition(&self.observed()));
    }
}

async fn serve(endpoint: Endpoint, observed: Arc<Mutex<Vec<ObservedConnection>>>) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else {
            continue;
        };
        let number = {
            let mut observed = observed.lock().expect("unpoisoned");
            let certificate = Certificate::of_peer(&connection).expect("certificate");
            observed.push(ObservedConnection {
                certificate: certificate.fingerprint(),
                events: 0,
            });
            observed.len() - 1
        };
        let count = {
            let observed = Arc::clone(&observed);
            move |events| observed.lock().expect("unpoisoned")[number].events += events
        };
        tokio::spawn(converse(connection, number > 0, count));
    }
}

async fn converse(connection: Connection, acknowledges: bool, count: impl Fn(u64)) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let EdgeMessage::Hello(hello) = read_message(&mut receive, MAX_BATCH_MESSAGE_BYTES)
        .await
        .ok()??
    else {
        panic!("no Hello")
    };
    assert_eq!(hello.node, NODE);
    let lanes = hello.lanes.iter().map(|lane| LaneState {
        lane: lane.lane,
        journal: lane.journal,
        received: lane.acknowledged,
        taken: lane.acknowledged,
    });
    let welcome = Welcome {
        lanes: lanes.collect(),
        ..Welcome::default()
    };
    write_message(&mut send, &AggregatorMessage::Welcome(welcome))
        .await
        .ok()?;
    while let Ok(Some(EdgeMessage::Batch(batch))) =
        read_message(&mut receive, MAX_BATCH_MESSAGE_BYTES).await
    {
        count(u64::from(batch.header.events));
        if acknowledges {
            let ack = Ack {
                lane: batch.header.lane,
                journal: batch.header.journal,
                taken: batch.header.last,
            };
            write_message(&mut send, &AggregatorMessage::Ack(ack))
                .await
                .ok()?;
        }
    }
    Some(())
}

#[test]
fn rotation_while_running_loses_no_event() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let data = dir.path().join("data");
    let aggregator = FakeAggregator::start(&data);
    let edge = Edge::shipping_to(dir, &aggregator.address.to_string());
    for _ in 0..CLICKS {
        assert_eq!(edge.get("/c/spring").status, 302);
    }
    aggregator.wait_for("everything was sent", |observed| {
        observed.first().is_some_and(|first| first.events == CLICKS)
    });
    let expiry = edge.metric("edge_certificate_expiry_timestamp_seconds", "");
    assert!(expiry > 1_700_000_000, "{expiry}");

    // Neither half of a certificate nor one of another node is used.
    let own = data.join("tls");
    let authority = Authority::open(&data.join("authority")).expect("created");
    let issue = |nodes: &[u16], name: &str| {
        let subject = Subject::Edge(nodes.to_vec());
        let issued = authority.issue(&subject, 90, &data.join(name));
        issued.expect("issued").fingerprint()
    };
    let replace = |name: &str, file: &str| {
        std::fs::rename(data.join(name).join(file), own.join(file)).expect("renamed");
    };
    let refused = || edge.metric(RELOADS, "file=\"certificates\",outcome=\"refused\"");
    issue(&[NODE + 1], "another");
    for (number, file) in [(1, "edge.key"), (2, "edge.pem")] {
        replace("another", file);
        edge.await_metric(RELOADS, "file=\"certificates\",outcome=\"refused\"", number);
    }
    assert_eq!((aggregator.observed().len(), refused()), (1, 2));
    assert!(edge.log().contains("edge.pem"), "{}", edge.log());

    // The new one is used at once, and everything is sent again.
    let new = issue(&[NODE], "new");
    for file in ["edge.key", "edge.pem"] {
        replace("new", file);
    }
    aggregator.wait_for("everything was sent again", |observed| {
        observed
            .iter()
            .any(|it| it.certificate == new && it.events == CLICKS)
    });
    let connections = aggregator.observed().len();
    assert_eq!(connections, 2);
    assert_eq!(edge.metric("edge_aggregator_connected", ""), 1);

    // An aggregator whose certificate is revoked gets nothing more.
    let identity = tls::load_or_create(&data.join("aggregator"), &Subject::Aggregator);
    let identity = identity.expect("certificates");
    let revoked = identity.certificate().fingerprint().to_string();
    std::fs::write(own.join("revoked.txt"), revoked).expect("written");
    edge.await_metric("edge_aggregator_disconnects_total", "reason=\"revoked\"", 1);
    let clicked = edge.get("/c/spring");
    assert_eq!(clicked.status, 302);
    assert!(
        aggregator
            .observed()
            .iter()
            .skip(2)
            .all(|it| it.events == 0)
    );
}
