//! One session with the aggregator, from the `Hello` to the end of the connection.

use super::{Dial, FleetState, Reason, Shipper};
use event_shipping::{
    AggregatorMessage, EdgeMessage, MAX_CONTROL_MESSAGE_BYTES, read_message, write_message,
};
use std::time::Duration;
use storage::Storage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How often lanes are checked for batches that are due.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How long the last batches may take to be acknowledged at shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The end of a session.
pub(super) struct SessionEnd {
    pub(super) welcomed: bool,
    pub(super) reason: Reason,
}

/// Runs a session until the connection ends or `stop` turns true.
pub(super) async fn run<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    (mut send, mut receive): (D::Send, D::Receive),
    mut stop: watch::Receiver<bool>,
) -> SessionEnd {
    let welcomed = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err(Reason::new("stopping", "asked to stop")),
        welcomed = handshake(shipper, &mut send, &mut receive) => welcomed,
    };
    if let Err(reason) = welcomed {
        return SessionEnd {
            welcomed: false,
            reason,
        };
    }
    shipper.metrics.connected.set(1);
    tracing::info!(aggregator = shipper.dial.peer(), "shipping");
    let reason = ship(shipper, send, receive, stop).await;
    SessionEnd {
        welcomed: true,
        reason,
    }
}

async fn handshake<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    send: &mut D::Send,
    receive: &mut D::Receive,
) -> Result<(), Reason> {
    let hello = EdgeMessage::Hello(shipper.spool.hello(shipper.node));
    write_message(send, &hello)
        .await
        .map_err(|error| Reason::new("write", error))?;
    let response = read_message::<AggregatorMessage>(receive, MAX_CONTROL_MESSAGE_BYTES);
    match tokio::time::timeout(WELCOME_TIMEOUT, response).await {
        Ok(Ok(Some(AggregatorMessage::Welcome(welcome)))) => {
            shipper.fleet.send_replace(Some(FleetState::of(&welcome)));
            shipper.spool.welcome(&welcome)
        }
        Ok(Ok(Some(AggregatorMessage::Refuse(refuse)))) => Err(Reason::refused(refuse)),
        Ok(Ok(Some(AggregatorMessage::Ack(_)))) => {
            Err(Reason::new("unsound", "an Ack before the Welcome"))
        }
        Ok(Ok(None)) => Err(Reason::new("connection", "closed before the Welcome")),
        Ok(Err(error)) => Err(Reason::new("read", error)),
        Err(_) => Err(Reason::new("welcome_timeout", "no Welcome")),
    }
}

/// A task that is aborted with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ship<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    send: D::Send,
    receive: D::Receive,
    mut stop: watch::Receiver<bool>,
) -> Reason {
    let (message_sender, mut messages) = mpsc::channel(16);
    let (batches, to_write) = mpsc::channel(1);
    let (failed, mut failure) = mpsc::channel(2);
    // Neither reading nor writing a message may be cancelled, so each has a task.
    let _reading = Task(tokio::spawn(read_messages(
        receive,
        message_sender,
        failed.clone(),
    )));
    let _writing = Task(tokio::spawn(write_batches(send, to_write, failed)));
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop_at = None;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if stop_at.is_none() => {
                stop_at = Some(Instant::now() + STOP_TIMEOUT);
            }
            Some(message) = messages.recv() => {
                if let Err(reason) = handle(shipper, message) {
                    return reason;
                }
            }
            Some(reason) = failure.recv() => return reason,
            () = shipper.drain.begins() => {}
            _ = check.tick() => {}
        }
        shipper.spool.seal_due(Instant::now().into_std());
        shipper.spool.release_covered();
        while let Ok(slot) = batches.try_reserve() {
            match shipper.spool.next_batch() {
                Some(batch) => slot.send(EdgeMessage::Batch(batch)),
                None => break,
            }
        }
        shipper.report_remaining(None);
        let done = shipper.spool.is_drained();
        if stop_at.is_some_and(|at| done || Instant::now() >= at) {
            return Reason::new("stopping", "asked to stop");
        }
    }
}

fn handle<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    message: AggregatorMessage,
) -> Result<(), Reason> {
    match message {
        AggregatorMessage::Ack(ack) => shipper
            .spool
            .acknowledge(&ack)
            .map_err(|error| Reason::new("unsound", error)),
        AggregatorMessage::Refuse(refuse) => Err(Reason::refused(refuse)),
        AggregatorMessage::Welcome(_) => Err(Reason::new("unsound", "a second Welcome")),
    }
}

async fn read_messages(
    mut receive: impl AsyncRead + Unpin,
    messages: mpsc::Sender<AggregatorMessage>,
    failed: mpsc::Sender<Reason>,
) {
    let reason = loop {
        match read_message::<AggregatorMessage>(&mut receive, MAX_CONTROL_MESSAGE_BYTES).await {
            Ok(Some(message)) => {
                if messages.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => break Reason::new("connection", "the aggregator closed the stream"),
            Err(error) => break Reason::new("read", error),
        }
    };
    let _ = failed.send(reason).await;
}

async fn write_batches(
    mut send: impl AsyncWrite + Unpin,
    mut batches: mpsc::Receiver<EdgeMessage>,
    failed: mpsc::Sender<Reason>,
) {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = write_message(&mut send, &batch).await {
            let _ = failed.send(Reason::new("write", error)).await;
            return;
        }
    }
}
