//! One edge: its `Hello`, then its batches in and acknowledgements out, then a reasoned goodbye.

use super::refusal::{End, message};
use super::{Phase, Shared};
use event_shipping::{
    Ack, Batch, EdgeMessage, Hello, LaneKey, MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE, PROTOCOL,
    RefuseCode, ToEdge, Verdict, checksum_holds, read_message, write_message,
};
use quinn::{Connection, Incoming};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// The handshake, and the `Hello` after it, may each take this long.
const GREETING: Duration = Duration::from_secs(5);

/// A goodbye may take this long to be confirmed.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) async fn run(incoming: Incoming, shared: Shared) {
    let address = incoming.remote_address();
    let connection = match timeout(GREETING, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared
                .metrics
                .refused
                .with_label_values(&["handshake"])
                .inc();
            tracing::warn!(%address, %error, "an edge's handshake failed; are its certificates ours?");
            return;
        }
        Err(_) => {
            shared
                .metrics
                .refused
                .with_label_values(&["handshake"])
                .inc();
            tracing::warn!(%address, "an edge's handshake took too long");
            return;
        }
    };
    match accept_stream(&connection, &shared).await {
        End::Gone(why) => tracing::info!(%address, why, "an edge is gone"),
        End::Refused(code, why) => {
            shared
                .metrics
                .refused
                .with_label_values(&[code.reason()])
                .inc();
            tracing::warn!(%address, reason = code.reason(), why, "an edge was refused");
        }
    }
}

async fn accept_stream(connection: &Connection, shared: &Shared) -> End {
    let Some(_place) = shared.place() else {
        let end = (
            RefuseCode::TooManyEdges,
            "as many edges as allowed are connected".to_owned(),
        );
        connection.close(u32::from(end.0.number()).into(), end.1.as_bytes());
        return End::Refused(end.0, end.1);
    };
    let (mut send, receive) = match timeout(GREETING, connection.accept_bi()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return End::Gone(error.to_string()),
        Err(_) => {
            let code = RefuseCode::Slow;
            connection.close(u32::from(code.number()).into(), code.reason().as_bytes());
            return End::refuse(code, "no stream was opened in time");
        }
    };
    let end = converse(&mut send, receive, shared).await;
    if let End::Refused(code, _) = &end {
        // The edge is given time to read why before the connection goes.
        if send.finish().is_ok() {
            let _ = timeout(GOODBYE, send.stopped()).await;
        }
        connection.close(u32::from(code.number()).into(), code.reason().as_bytes());
    }
    end
}

/// Talks to one edge until it goes or is refused, in which case it was told why.
pub(crate) async fn converse(
    mut send: impl AsyncWrite + Unpin,
    mut receive: impl AsyncRead + Unpin,
    shared: &Shared,
) -> End {
    let end = talk(&mut send, &mut receive, shared).await;
    if let End::Refused(code, why) = &end {
        let refuse = ToEdge::Refuse(message(*code, why));
        let _ = timeout(GOODBYE, write_message(&mut send, &refuse)).await;
    }
    end
}

async fn talk(
    send: &mut (impl AsyncWrite + Unpin),
    receive: &mut (impl AsyncRead + Unpin),
    shared: &Shared,
) -> End {
    let hello = match timeout(GREETING, read_hello(receive)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(end)) => return end,
        Err(_) => return End::refuse(RefuseCode::Slow, "the Hello did not come in time"),
    };
    let welcome = match shared.intake.hello(&hello) {
        Ok(welcome) => welcome,
        Err(code) => return End::refuse(code, "as many lanes as allowed are known"),
    };
    let acknowledged: BTreeMap<LaneKey, u64> = welcome
        .lanes
        .iter()
        .map(|lane| {
            let key = LaneKey {
                node: hello.node,
                lane: lane.lane,
                journal: lane.journal,
            };
            shared.metrics.lane(key, *lane);
            (key, lane.taken)
        })
        .collect();
    tracing::info!(node = hello.node, software = %shorten(&hello.software), "an edge connected");
    if let Err(error) = write_message(send, &ToEdge::Welcome(welcome)).await {
        return End::Gone(error.to_string());
    }
    let edges = shared
        .metrics
        .edges
        .with_label_values(&[&hello.node.to_string()]);
    edges.inc();
    let end = tokio::select! {
        biased;
        end = acknowledge(send, acknowledged.clone(), shared) => end,
        end = read_batches(receive, hello.node, &acknowledged, shared) => end,
    };
    edges.dec();
    end
}

async fn read_hello(receive: &mut (impl AsyncRead + Unpin)) -> Result<Hello, End> {
    match read_message(receive, MAX_CONTROL_MESSAGE).await? {
        Some(EdgeMessage::Hello(hello)) if hello.protocol == PROTOCOL => Ok(hello),
        Some(EdgeMessage::Hello(hello)) => {
            let other = hello.protocol;
            let why = format!("protocol {other} is not spoken here, only {PROTOCOL}");
            Err(End::refuse(RefuseCode::Protocol, why))
        }
        Some(EdgeMessage::Batch(_)) => Err(End::refuse(
            RefuseCode::Malformed,
            "a Hello must come first",
        )),
        None => Err(End::Gone("closed before its Hello".to_owned())),
    }
}

/// Reads until the edge goes, is refused, or the aggregator stops reading; then it waits for the
/// last acknowledgements to go out.
async fn read_batches(
    receive: &mut (impl AsyncRead + Unpin),
    node: u16,
    lanes: &BTreeMap<LaneKey, u64>,
    shared: &Shared,
) -> End {
    loop {
        let next = async {
            shared.intake.room().await;
            read_message(receive, MAX_BATCH_MESSAGE).await
        };
        let message = tokio::select! {
            biased;
            () = shared.phase(Phase::Draining) => return std::future::pending().await,
            message = next => message,
        };
        let accepted = match message {
            Ok(Some(EdgeMessage::Batch(batch))) => accept(batch, node, lanes, shared),
            Ok(Some(EdgeMessage::Hello(_))) => {
                Err(End::refuse(RefuseCode::Malformed, "a second Hello"))
            }
            Ok(None) => Err(End::Gone("finished".to_owned())),
            Err(error) => Err(error.into()),
        };
        if let Err(end) = accepted {
            return end;
        }
    }
}

fn accept(
    batch: Batch,
    node: u16,
    lanes: &BTreeMap<LaneKey, u64>,
    shared: &Shared,
) -> Result<(), End> {
    let header = batch.header;
    let key = header.key(node);
    header.validate()?;
    if !lanes.contains_key(&key) {
        return Err(event_shipping::OfferError::from(event_shipping::UnknownLane(key)).into());
    }
    if !(1..=tracking_events::FORMAT_VERSION).contains(&header.format_version) {
        let why = format!(
            "event format {} is unknown; upgrade here first",
            header.format_version
        );
        return Err(End::refuse(RefuseCode::Format, why));
    }
    checksum_holds(&header, &batch.payload)?;
    let bytes = batch.payload.len() as u64;
    let verdict = match shared.intake.offer(node, batch)? {
        Verdict::Accept { skip_through } if skip_through >= header.first => "overlap",
        Verdict::Accept { .. } => "accepted",
        Verdict::Duplicate { .. } => "duplicate",
    };
    shared.metrics.batches.with_label_values(&[verdict]).inc();
    if verdict != "duplicate" {
        shared.metrics.batch_bytes.inc_by(bytes);
        shared.metrics.held(shared.intake.held_bytes());
    }
    if let Some(state) = shared.intake.lane(key) {
        shared.metrics.lane(key, state);
    }
    Ok(())
}

/// Tells the edge whenever ClickHouse has more of its lanes. The stream keeps order and loses
/// nothing, and the `Welcome` said what was taken before, so nothing is ever said twice.
async fn acknowledge(
    send: &mut (impl AsyncWrite + Unpin),
    mut acknowledged: BTreeMap<LaneKey, u64>,
    shared: &Shared,
) -> End {
    loop {
        let taken = shared.intake.taken();
        let closing = *shared.phase.borrow() == Phase::Closing;
        for (key, before) in &mut acknowledged {
            let Some(state) = shared.intake.lane(*key).filter(|lane| lane.taken > *before) else {
                continue;
            };
            *before = state.taken;
            shared.metrics.lane(*key, state);
            let ack = Ack {
                lane: key.lane,
                journal: key.journal,
                taken: state.taken,
            };
            if let Err(error) = write_message(send, &ToEdge::Ack(ack)).await {
                return End::Gone(error.to_string());
            }
        }
        if closing {
            return End::refuse(
                RefuseCode::Stopping,
                "the aggregator is stopping; come back",
            );
        }
        tokio::select! {
            biased;
            () = taken => {}
            () = shared.phase(Phase::Closing) => {}
        }
    }
}

/// What a stranger calls itself, fit for a log line.
fn shorten(software: &str) -> String {
    software
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect()
}
