//! One connection of an edge: `Hello`, batches in and acknowledgements out, and a close with its reason.

use super::peer::Peer;
use super::refusal::{ConnectionEnd, message};
use super::table::Registration;
use super::{Shared, claims, config_streams, greeting};
use crate::phase::Phase;
use event_shipping::tls::Trust;
use event_shipping::{
    Ack, AggregatorMessage, Batch, BatchDecision, EdgeMessage, Hello, LaneKey, LaneState,
    MAX_BATCH_MESSAGE_BYTES, MAX_CONTROL_MESSAGE_BYTES, OfferError, PROTOCOL_VERSION, RefuseCode,
    UnknownLane, read_message, verify_checksum, write_message,
};
use quinn::Connection;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument as _, Span, field};

/// The limit of each: opening the stream, and the `Hello` on it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit for an edge to confirm a refusal.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one connection. All its log lines have the edge's `address` and, once it is known, its `node`.
pub(super) async fn run(connection: Connection, trust: watch::Receiver<Trust>, shared: Shared) {
    let address = connection.remote_address();
    // A span of level error exists under any `RUST_LOG`.
    let span = tracing::error_span!("edge", %address, node = field::Empty);
    serve(connection, trust, shared).instrument(span).await;
}

async fn serve(connection: Connection, trust: watch::Receiver<Trust>, shared: Shared) {
    let end = match Peer::of(&connection, trust) {
        Ok(peer) => accept_stream(&connection, &peer, &shared).await,
        Err(error) => close(
            &connection,
            ConnectionEnd::refuse(RefuseCode::NodeMismatch, error),
        ),
    };
    if let Some((code, _)) = end.refusal() {
        let refused = &shared.metrics.refused;
        refused.with_label_values(&[code.name()]).inc();
    }
    match end {
        ConnectionEnd::Gone(why) => tracing::info!(why, "edge disconnected"),
        ConnectionEnd::Refused(code, why) => {
            tracing::warn!(reason = code.name(), why, "edge refused");
        }
        ConnectionEnd::Superseded { newer, .. } => {
            tracing::info!(newer, "a newer connection supersedes this one");
        }
    }
}

/// Closes a connection without a stream.
fn close(connection: &Connection, end: ConnectionEnd) -> ConnectionEnd {
    if let Some((code, why)) = end.refusal() {
        connection.close(u32::from(code.number()).into(), why.as_bytes());
    }
    end
}

async fn accept_stream(connection: &Connection, peer: &Peer, shared: &Shared) -> ConnectionEnd {
    let _slot = match shared.slots.claim(peer.fingerprint()) {
        Ok(slot) => slot,
        Err(why) => {
            return close(
                connection,
                ConnectionEnd::refuse(RefuseCode::TooManyEdges, why),
            );
        }
    };
    let (mut send, receive) = match timeout(HANDSHAKE_TIMEOUT, connection.accept_bi()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return ConnectionEnd::Gone(error.to_string()),
        Err(_) => {
            let end = ConnectionEnd::refuse(RefuseCode::Slow, "the edge opened no stream in time");
            return close(connection, end);
        }
    };
    let configuration = config_streams::serve(connection, peer, shared.configuration.as_ref());
    let end = tokio::select! {
        biased;
        end = converse(&mut send, receive, Some(peer), shared) => end,
        never = configuration => match never {},
    };
    if let Some((code, _)) = end.refusal() {
        // Lets the edge read the reason before the connection is closed.
        let finished = send.finish().is_ok();
        let confirmed =
            finished && matches!(timeout(CLOSE_TIMEOUT, send.stopped()).await, Ok(Ok(_)));
        connection.close(u32::from(code.number()).into(), code.name().as_bytes());
        if confirmed && let ConnectionEnd::Superseded { node, newer } = &end {
            report_clash(*node, peer, newer, shared);
        }
    }
    end
}

/// Reports an edge that still responds on the older connection. An edge that lost a connection does not: so another
/// process has the same journal.
fn report_clash(node: u16, older: &Peer, newer: &str, shared: &Shared) {
    let clashes = &shared.connections.clashes;
    clashes.with_label_values(&[&node.to_string()]).inc();
    tracing::error!(alert = true, %older, newer, "closed the older of two live connections that send the same journal; was an edge's directory or certificate copied?");
}

/// Reports another live process with the node's certificate, once; never returns.
async fn report_twin(
    registration: &Registration,
    peer: Option<&Peer>,
    node: u16,
    shared: &Shared,
) -> Infallible {
    if let Some(peer) = peer
        && let Some(older) = registration.twin().await
    {
        let clashes = &shared.connections.clashes;
        clashes.with_label_values(&[&node.to_string()]).inc();
        tracing::error!(alert = true, older, newer = %peer, "two live edges with different journals have the same node number; was an edge's directory or certificate copied?");
    }
    std::future::pending().await
}

/// Serves one edge until it disconnects or is refused; a refusal is sent to the edge. Without a `peer` the transport
/// authenticates nothing: only simulations use such a transport.
pub(crate) async fn converse(
    mut send: impl AsyncWrite + Unpin,
    mut receive: impl AsyncRead + Unpin,
    peer: Option<&Peer>,
    shared: &Shared,
) -> ConnectionEnd {
    let end = talk(&mut send, &mut receive, peer, shared).await;
    if let Some((code, why)) = end.refusal() {
        let refuse = AggregatorMessage::Refuse(message(code, why));
        let _ = timeout(CLOSE_TIMEOUT, write_message(&mut send, &refuse)).await;
    }
    end
}

async fn distrusted(peer: Option<&Peer>) -> ConnectionEnd {
    match peer {
        Some(peer) => peer.distrusted().await,
        None => std::future::pending().await,
    }
}

async fn talk(
    send: &mut (impl AsyncWrite + Unpin),
    receive: &mut (impl AsyncRead + Unpin),
    peer: Option<&Peer>,
    shared: &Shared,
) -> ConnectionEnd {
    let hello = match timeout(HANDSHAKE_TIMEOUT, read_hello(receive)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(end)) => return end,
        Err(_) => return ConnectionEnd::refuse(RefuseCode::Slow, "the edge sent no Hello in time"),
    };
    Span::current().record("node", hello.node);
    if let Some(Err(end)) = peer.map(|peer| peer.authorize(hello.node)) {
        return end;
    }
    let description = peer.map_or_else(String::new, ToString::to_string);
    let registration = shared.table.register(&hello, &description);
    let mut welcome = match greeting::welcome(&hello, shared) {
        Ok(welcome) => welcome,
        Err(error) => return OfferError::from(error).into(),
    };
    let welcomed: BTreeMap<LaneKey, LaneState> = welcome
        .lanes
        .iter()
        .map(|lane| {
            let key = LaneKey {
                node: hello.node,
                lane: lane.lane,
                journal: lane.journal,
            };
            (key, *lane)
        })
        .collect();
    if let Some(fleet) = &shared.fleet {
        fleet.complete(&mut welcome);
    }
    let acknowledged = welcomed.iter().map(|(key, lane)| (*key, lane.taken));
    if let Some(peer) = peer {
        let expiry = &shared.connections.edge_certificate_expiry;
        let node = hello.node.to_string();
        expiry.with_label_values(&[&node]).set(peer.expires_at());
    }
    tracing::info!(software = %shorten(&hello.software), peer = description, "edge connected");
    if let Err(error) = write_message(send, &AggregatorMessage::Welcome(welcome)).await {
        return ConnectionEnd::Gone(error.to_string());
    }
    let edges = shared
        .metrics
        .edges
        .with_label_values(&[&hello.node.to_string()]);
    edges.inc();
    shared
        .connections
        .clashes
        .with_label_values(&[&hello.node.to_string()]);
    let twin = report_twin(&registration, peer, hello.node, shared);
    let end = tokio::select! {
        biased;
        end = distrusted(peer) => end,
        never = twin => match never {},
        newer = registration.superseded() => ConnectionEnd::Superseded { node: hello.node, newer },
        end = acknowledge(send, acknowledged.collect(), shared) => end,
        end = read_batches(receive, &hello, &welcomed, shared) => end,
    };
    edges.dec();
    end
}

async fn read_hello(receive: &mut (impl AsyncRead + Unpin)) -> Result<Hello, ConnectionEnd> {
    match read_message(receive, MAX_CONTROL_MESSAGE_BYTES).await? {
        Some(EdgeMessage::Hello(hello)) if hello.protocol == PROTOCOL_VERSION => Ok(hello),
        Some(EdgeMessage::Hello(hello)) => {
            let other = hello.protocol;
            let why = format!("protocol {other} is not supported, only {PROTOCOL_VERSION}");
            Err(ConnectionEnd::refuse(RefuseCode::Protocol, why))
        }
        Some(EdgeMessage::Batch(_)) => Err(ConnectionEnd::refuse(
            RefuseCode::Malformed,
            "the first message must be a Hello",
        )),
        None => Err(ConnectionEnd::Gone("closed before the Hello".to_owned())),
    }
}

/// Reads until the edge goes, is refused, or the aggregator stops reading; then it waits for the
/// last acknowledgements to go out.
async fn read_batches(
    receive: &mut (impl AsyncRead + Unpin),
    hello: &Hello,
    welcomed: &BTreeMap<LaneKey, LaneState>,
    shared: &Shared,
) -> ConnectionEnd {
    loop {
        let next = async {
            shared.ingest_queue.room(hello.node).await;
            read_message(receive, MAX_BATCH_MESSAGE_BYTES).await
        };
        let message = tokio::select! {
            biased;
            () = shared.phase(Phase::Draining) => return std::future::pending().await,
            message = next => message,
        };
        let accepted = match message {
            Ok(Some(EdgeMessage::Batch(batch))) => accept(batch, hello, welcomed, shared),
            Ok(Some(EdgeMessage::Hello(_))) => Err(ConnectionEnd::refuse(
                RefuseCode::Malformed,
                "second Hello on one connection",
            )),
            Ok(None) => Err(ConnectionEnd::Gone("finished".to_owned())),
            Err(error) => Err(error.into()),
        };
        if let Err(end) = accepted {
            return end;
        }
    }
}

fn accept(
    batch: Batch,
    hello: &Hello,
    welcomed: &BTreeMap<LaneKey, LaneState>,
    shared: &Shared,
) -> Result<(), ConnectionEnd> {
    let header = batch.header;
    let key = header.key(hello.node);
    header.validate()?;
    claims::check(&header)?;
    let welcomed = welcomed
        .get(&key)
        .ok_or(OfferError::from(UnknownLane(key)))?;
    if !(1..=tracking_events::FORMAT_VERSION).contains(&header.format_version) {
        let why = format!(
            "event format {} is unknown; upgrade the aggregator first",
            header.format_version
        );
        return Err(ConnectionEnd::refuse(RefuseCode::Format, why));
    }
    verify_checksum(&header, &batch.payload)?;
    let bytes = batch.payload.len() as u64;
    let offered = shared.ingest_queue.offer(hello.node, welcomed, batch);
    let verdict = match offered? {
        BatchDecision::Accept { skip_through } if skip_through >= header.first => "overlap",
        BatchDecision::Accept { .. } => "accepted",
        BatchDecision::Duplicate { .. } => "duplicate",
    };
    shared.metrics.batches.with_label_values(&[verdict]).inc();
    if verdict != "duplicate" {
        shared.metrics.batch_bytes.inc_by(bytes);
        shared.metrics.held(shared.ingest_queue.held_bytes());
    }
    if let Some(state) = shared.ingest_queue.lane(key) {
        let waiting = shared.ingest_queue.held_events(key);
        shared.metrics.lane(key, state, waiting);
    }
    Ok(())
}

/// Acknowledges inserted events of the edge's lanes as they are inserted. The stream is ordered and reliable, and the
/// `Welcome` contained the positions before, so no acknowledgement is repeated.
async fn acknowledge(
    send: &mut (impl AsyncWrite + Unpin),
    mut acknowledged: BTreeMap<LaneKey, u64>,
    shared: &Shared,
) -> ConnectionEnd {
    loop {
        let taken = shared.ingest_queue.taken();
        let closing = *shared.phase.borrow() == Phase::Closing;
        for (key, before) in &mut acknowledged {
            let Some(state) = shared
                .ingest_queue
                .lane(*key)
                .filter(|lane| lane.taken > *before)
            else {
                continue;
            };
            *before = state.taken;
            let waiting = shared.ingest_queue.held_events(*key);
            shared.metrics.lane(*key, state, waiting);
            let ack = Ack {
                lane: key.lane,
                journal: key.journal,
                taken: state.taken,
            };
            if let Err(error) = write_message(send, &AggregatorMessage::Ack(ack)).await {
                return ConnectionEnd::Gone(error.to_string());
            }
        }
        if closing {
            return ConnectionEnd::refuse(
                RefuseCode::Stopping,
                "the aggregator is stopping; connect again",
            );
        }
        tokio::select! {
            biased;
            () = taken => {}
            () = shared.phase(Phase::Closing) => {}
        }
    }
}

/// The software name that a peer states, shortened for a log line.
fn shorten(software: &str) -> String {
    software
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect()
}
